package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"

	"github.com/vtclient/vtclient"
)

// details returns the facts about the exchange that an error comes from.
func details(err error) vtclient.Details {
	var (
		h *vtclient.HTTPError
		t *vtclient.TransportError
		d *vtclient.DecodeError
		s *vtclient.UnknownStateError
	)
	switch {
	case errors.As(err, &h):
		return h.Details
	case errors.As(err, &t):
		return t.Details
	case errors.As(err, &d):
		return d.Details
	case errors.As(err, &s):
		return s.Details
	}
	return vtclient.Details{}
}

// faultKind is an error's text without what differs from job to job: ids, counts,
// delays and ports.
func faultKind(err error) string {
	var (
		h  *vtclient.HTTPError
		t  *vtclient.TransportError
		d  *vtclient.DecodeError
		op *net.OpError
	)
	switch {
	case errors.As(err, &h):
		return strings.TrimSpace(fmt.Sprintf("%d %s", h.StatusCode, http.StatusText(h.StatusCode)))
	case errors.As(err, &op):
		return op.Err.Error()
	case errors.As(err, &t):
		return t.Err.Error()
	case errors.As(err, &d):
		return "the answer cannot be read"
	}
	return err.Error()
}
