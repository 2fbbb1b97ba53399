package vtclient

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"
	"unicode"
)

// httpClient returns a client that may be used with n requests in flight, and
// the n that its transport has connections for.
func httpClient(given *http.Client, n int) (*http.Client, int) {
	if given == nil {
		t, ok := http.DefaultTransport.(*http.Transport)
		if ok {
			t = t.Clone()
		} else { // a program has put a wrapper there
			t = &http.Transport{Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true,
				IdleConnTimeout: 90 * time.Second, TLSHandshakeTimeout: 10 * time.Second}
		}
		if t.MaxConnsPerHost > 0 {
			n = min(n, t.MaxConnsPerHost)
		}
		// net/http keeps two idle connections per host: beyond two requests at
		// once, nearly every request would open and close one.
		t.MaxIdleConns, t.MaxIdleConnsPerHost = n, n
		t.MaxResponseHeaderBytes = 64 << 10
		if t.HTTP2 == nil { // of connections that are silent, over HTTP/2, net/http finds none by itself
			t.HTTP2 = &http.HTTP2Config{SendPingTimeout: 15 * time.Second, PingTimeout: 5 * time.Second}
		}
		return &http.Client{Transport: t, CheckRedirect: checkRedirect(nil)}, n
	}
	hc := *given
	hc.CheckRedirect = checkRedirect(given.CheckRedirect)
	rt := hc.Transport
	if rt == nil {
		rt = http.DefaultTransport
	}
	if t, ok := rt.(*http.Transport); ok && t.MaxConnsPerHost > 0 {
		n = min(n, t.MaxConnsPerHost)
	}
	return &hc, n
}

// leavesHeader reports whether hc does not write to the header of a request. net/http's own
// transport does not; others are known to although they should not, and a jar's cookies go
// there.
func leavesHeader(hc *http.Client) bool {
	_, ok := hc.Transport.(*http.Transport)
	return ok && hc.Jar == nil
}

var errRedirect = errors.New("redirect refused")

// checkRedirect refuses what would carry credentials to where they do not
// belong: net/http drops Authorization on the way to another host, but not
// X-Api-Key and its like. On the way to the backend itself it restores what net/http
// drops: the user of the base URL, and headers where the host is written otherwise.
func checkRedirect(next func(*http.Request, []*http.Request) error) func(*http.Request, []*http.Request) error {
	return func(req *http.Request, via []*http.Request) error {
		from := via[0].URL
		to := req.URL
		upgrade := from.Scheme == "http" && port(from) == "80" && to.Scheme == "https" && port(to) == "443"
		switch {
		case via[0].Method != http.MethodGet: // what changes something must not be done elsewhere, or twice
			return http.ErrUseLastResponse
		case host(from) != host(to),
			!upgrade && (from.Scheme != to.Scheme || port(from) != port(to)):
			return fmt.Errorf("%w: from %s to %s", errRedirect, origin(from), origin(to))
		case len(via) >= 10:
			return fmt.Errorf("%w: more than 10 in a row", errRedirect)
		}
		toItself(req, via[0])
		if next == nil {
			return nil
		}
		err := next(req, via)
		if err != nil && err != http.ErrUseLastResponse {
			err = fmt.Errorf("%w: %w", errRedirect, err)
		}
		return err
	}
}

// toItself gives a request to the backend, on a redirect by the backend, what net/http has
// dropped of the first one: the user of the base URL and a Host of the caller's where the
// redirect has the whole address, and the credentials where it writes the host otherwise.
func toItself(req, first *http.Request) {
	name := first.URL.Hostname()
	if strings.Contains(name, ":") {
		name = "[" + name + "]"
	}
	if p := req.URL.Port(); p != "" {
		name += ":" + p
	}
	req.URL.Host, req.URL.User = name, first.URL.User
	if first.Host != first.URL.Host {
		req.Host = first.Host
	}
	for _, k := range [...]string{"Authorization", "Cookie"} {
		if v := first.Header[k]; v != nil && req.Header[k] == nil {
			req.Header[k] = slices.Clone(v)
		}
	}
}

// host returns the one spelling of all those that a host's name or address has.
func host(u *url.URL) string {
	name := strings.ToLower(strings.TrimSuffix(u.Hostname(), "."))
	if ip, err := netip.ParseAddr(name); err == nil {
		return ip.Unmap().String()
	}
	if strings.ContainsFunc(name, func(r rune) bool { return r > unicode.MaxASCII }) {
		// net/http has the ASCII form of such names, and shows it in a request alone.
		var b strings.Builder
		(&http.Request{Host: name, URL: new(url.URL)}).Write(&b)
		for line := range strings.SplitSeq(b.String(), "\r\n") {
			if ascii, ok := strings.CutPrefix(line, "Host: "); ok {
				return ascii
			}
		}
	}
	return name
}

func port(u *url.URL) string {
	switch p := u.Port(); {
	case p != "":
		return strings.TrimLeft(p, "0")
	case u.Scheme == "https":
		return "443"
	default:
		return "80"
	}
}

func origin(u *url.URL) string { return oneLine(u.Scheme+"://"+u.Host, 200) }
