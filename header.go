package vtclient

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// notText reports whether r may not stand in a header's value (RFC 9110, 5.5).
func notText(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }

// notToken reports whether r may not stand in a header name (RFC 9110, 5.6.2).
func notToken(r rune) bool {
	return r <= ' ' || r >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, r)
}

// newHeader is the header that all requests have.
func newHeader(cfg *config, hc *http.Client) http.Header {
	h := http.Header{"Accept": {"application/json"}, "User-Agent": {"vtclient"}}
	// An answer from a cache on the way would show how far the job was some time ago.
	// Pragma is for caches of HTTP/1.0.
	h["Cache-Control"] = []string{"no-cache"}
	if _, own := cfg.header["Cache-Control"]; !own {
		h["Pragma"] = []string{"no-cache"}
	}
	if t, ok := hc.Transport.(*http.Transport); !ok || !t.DisableCompression {
		h["Accept-Encoding"] = []string{"gzip"} // see gunzip
	}
	for k, v := range cfg.header {
		h[k] = slices.Clip(v) // all requests share it: an append must not write into it
	}
	return h
}

// unfit returns what is wrong with a header that a caller sets, or "". net/http silently drops
// some. With others the answer is not the status of the job.
func unfit(key string, values ...string) (reason string) {
	switch http.CanonicalHeaderKey(key) {
	case "Host":
		return "net/http ignores it; WithRequest can set r.Host"
	case "Content-Length", "Transfer-Encoding", "Trailer":
		return "net/http sets it from the request's body"
	case "Connection":
		return "it is the connection's; WithRequest can set r.Close"
	case "Keep-Alive", "Proxy-Connection", "Upgrade", "Http2-Settings", "Te", "Expect":
		return "it is the connection's"
	case "Range", "If-Range":
		return "the answer would be a part of the status"
	case "If-None-Match", "If-Modified-Since", "If-Match", "If-Unmodified-Since":
		return "the answer could be without a status"
	case "Accept-Encoding":
		for _, v := range values {
			for coding := range strings.SplitSeq(v, ",") {
				coding, weight, _ := strings.Cut(coding, ";")
				switch strings.ToLower(strings.TrimSpace(coding)) {
				case "", "gzip", "x-gzip", "identity":
				default:
					if q := strings.ReplaceAll(weight, " ", ""); strings.Trim(q, "0.") != "q=" {
						return "only gzip and identity can be read"
					}
				}
			}
		}
	}
	return ""
}

// sendable returns an error if WithRequest has made a request that net/http cannot send, or
// must not. net/http itself would report some as a fault of the network, and send others
// changed.
func sendable(req *http.Request) error {
	switch u := req.URL; {
	case u == nil, u.Host == "", u.Scheme != "http" && u.Scheme != "https":
		return errors.New("the request has no http or https URL")
	case req.Method == http.MethodHead, req.Method == http.MethodConnect, strings.ContainsFunc(req.Method, notToken):
		return fmt.Errorf("the method is %s; expected one whose answer has a body, such as GET", quoteID(req.Method))
	case req.RequestURI != "":
		return errors.New("RequestURI is set; expected the address in URL")
	case len(req.TransferEncoding) > 0, len(req.Trailer) > 0:
		return errors.New("TransferEncoding or Trailer is set; expected neither")
	case req.ContentLength != 0 && req.Body == nil:
		return fmt.Errorf("ContentLength is %d; expected 0 for a request without a body", req.ContentLength)
	}
	for k, values := range req.Header {
		if k == "" || strings.ContainsFunc(k, notToken) {
			return fmt.Errorf("%s is no name for a header", quoteID(k))
		}
		for _, v := range values {
			if strings.ContainsFunc(v, notText) {
				return fmt.Errorf("the value of header %s has a control character", k)
			}
		}
		if reason := unfit(k, values...); reason != "" {
			return fmt.Errorf("header %s is set: %s", k, reason)
		}
	}
	return nil
}

// requestLine is the Details.Target of a request: nothing in it may be secret.
func requestLine(method string, u *url.URL, path string) string {
	if method == "" {
		method = http.MethodGet
	}
	return oneLine(method+" "+u.Host+path, 200)
}
