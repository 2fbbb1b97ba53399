package contract_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/vtclient/vtclient"
)

// What a hostile backend can cost, at the defaults. The tests below hold the
// client to these bounds; docs/reliability.md and the options' comments name those that can
// be set.
const (
	// headBound is what is read of one answer's head, informational answers
	// before it included: MaxResponseHeaderBytes of the default transport, and
	// net/http's read buffer.
	headBound = 64<<10 + ioBuffer
	// bodyBound is what is read of the body of a good answer: WithMaxBody.
	bodyBound = headBound + 1<<20 + ioBuffer
	// errorBound is the same for any other answer.
	errorBound = headBound + 64<<10 + ioBuffer
	// lineBound is for what net/http's own limits of a line or of a trailer
	// stop: two buffers.
	lineBound = headBound + 2*ioBuffer

	ioBuffer = 4 << 10

	// allocBound is what one exchange may allocate in all, garbage included: a
	// buffer that grows to WithMaxBody, the answer decoded, its copies for the
	// error, and the test's own server.
	allocBound = 16 << 20

	// timeBound is what one exchange may last: WithTimeout.
	timeBound = 10 * time.Second

	// textBound is the longest text of an error.
	textBound = 4 << 10
)

// An attacker is a server that writes whatever it likes.
type attacker struct {
	url      string
	took     atomic.Int64 // bytes that the client has taken, over all connections
	requests atomic.Int32
	dials    sync.Map // the addresses that were dialled
	refs     sync.WaitGroup
}

// A wire is the attacker's end of a connection.
type wire struct {
	net.Conn
	by      *attacker
	request *http.Request // the one to answer
	number  int           // of the request, from 1
}

func (w *wire) Write(p []byte) (int, error) {
	n, err := w.Conn.Write(p)
	w.by.took.Add(int64(n))
	return n, err
}

// say writes, and reports whether the client still takes it.
func (w *wire) say(format string, args ...any) bool {
	_, err := fmt.Fprintf(w, format, args...)
	return err == nil
}

// flood repeats s until the client hangs up, and fails the test if it has taken
// far more than any bound.
func (w *wire) flood(t *testing.T, s string) {
	chunk := strings.Repeat(s, max(1, ioBuffer/len(s)))
	for w.by.took.Load() < 64<<20 {
		if _, err := io.WriteString(w, chunk); err != nil {
			return
		}
	}
	t.Errorf("the client has taken %d bytes of a flood", w.by.took.Load())
	w.Close()
}

// drip repeats s, a byte a second, until the client hangs up.
func (w *wire) drip(s string) {
	for i := 0; ; i++ {
		time.Sleep(time.Second)
		if !w.say("%c", s[i%len(s)]) {
			return
		}
	}
}

// attacked returns a client whose default transport, as New makes it, leads to
// an attacker over pipes: they have no buffer, so that what the attacker has
// written is what the client has read. play answers a request; then the
// connection stays open, unless play has closed it. To be called in a bubble.
func attacked(t *testing.T, play func(*wire), opts ...vtclient.Option) (*vtclient.Client, *attacker) {
	t.Helper()
	a := &attacker{url: "http://api.test"}
	old := http.DefaultTransport
	http.DefaultTransport = &http.Transport{DialContext: func(_ context.Context, _, addr string) (net.Conn, error) {
		a.dials.Store(addr, true)
		client, server := net.Pipe()
		a.refs.Go(func() { a.serve(server, play) })
		return client, nil
	}}
	c, err := vtclient.New(a.url, opts...)
	http.DefaultTransport = old
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		c.CloseIdleConnections()
		a.refs.Wait() // a connection that the client has leaked keeps the test from ending
	})
	return c, a
}

func (a *attacker) serve(conn net.Conn, play func(*wire)) {
	defer conn.Close()
	for r := bufio.NewReader(conn); ; {
		req, err := http.ReadRequest(r)
		if err != nil {
			return
		}
		play(&wire{conn, a, req, int(a.requests.Add(1))})
	}
}

const (
	goodBody = `{"result":"completed"}`
	goodHead = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
)

// good answers as a backend should.
func (w *wire) good() {
	w.say("%sContent-Length: %d\r\n\r\n%s", goodHead, len(goodBody), goodBody)
}

// body answers with a body as it should be sent.
func (w *wire) body(head, body string) {
	w.say("HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s", head, len(body), body)
}

func gzipped(s string) string {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	io.WriteString(z, s)
	z.Close()
	return b.String()
}

// A kind is the type that an attack's error has.
type kind int

const (
	transport kind = iota
	decode
	status
	state
	none // no error at all
)

func kindOf(err error) kind {
	var (
		te *vtclient.TransportError
		de *vtclient.DecodeError
		he *vtclient.HTTPError
		se *vtclient.UnknownStateError
	)
	switch {
	case errors.As(err, &te):
		return transport
	case errors.As(err, &de):
		return decode
	case errors.As(err, &he):
		return status
	case errors.As(err, &se):
		return state
	}
	return none
}

// checkText holds the texts of err and of all errors in it that are ours to
// one printable line of bounded length.
func checkText(t *testing.T, err error) {
	t.Helper()
	if err == nil {
		return
	}
	text := err.Error()
	if len(text) > textBound || !utf8.ValidString(text) || strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) }) {
		t.Errorf("not one printable line of at most %d bytes, but %d: %.300q", textBound, len(text), text)
	}
	if w, ok := err.(*vtclient.WaitError); ok {
		checkText(t, w.Fault)
	}
}

// Hostile backend. Whatever one answer does, it is refused with a typed
// error within the bounds above, and the wait goes on to the next answer, or
// ends at once where that would be no better.
func TestHostileAnswers(t *testing.T) {
	deep := strings.Repeat("[", 100_000)
	bomb := gzipped(`{"result":"completed","pad":"` + strings.Repeat("a", 32<<20) + `"}`)
	for _, tt := range []struct {
		name  string
		play  func(t *testing.T, w *wire)
		kind  kind
		bytes int64         // bound of what the client takes
		lasts time.Duration // how long the exchange lasts, exactly
		final bool          // the wait ends
		is    error         // what the error matches, too
	}{
		// Heads.
		{"endless headers", func(t *testing.T, w *wire) {
			w.say("HTTP/1.1 200 OK\r\n")
			w.flood(t, "X-Filler: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n")
		}, transport, headBound, 0, false, nil},
		{"a header line without end", func(t *testing.T, w *wire) {
			w.say("HTTP/1.1 200 OK\r\nX-Filler: ")
			w.flood(t, "a")
		}, transport, headBound, 0, false, nil},
		{"a status line without end", func(t *testing.T, w *wire) { w.say("HTTP/1.1 200 "); w.flood(t, "a") }, transport, headBound, 0, false, nil},
		{"a header of megabytes", func(t *testing.T, w *wire) {
			w.say("%sX-Big: %s\r\nContent-Length: 22\r\n\r\n%s", goodHead, strings.Repeat("a", 4<<20), goodBody)
		}, transport, headBound, 0, false, nil},
		{"thousands of cookies", func(t *testing.T, w *wire) {
			w.say("%s%sContent-Length: 22\r\n\r\n%s", goodHead, strings.Repeat("Set-Cookie: a=b; Path=/\r\n", 10_000), goodBody)
		}, transport, headBound, 0, false, nil},
		{"endless informational answers", func(t *testing.T, w *wire) { w.flood(t, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n") }, transport, headBound, 0, false, nil},
		{"endless bare 100s", func(t *testing.T, w *wire) { w.flood(t, "HTTP/1.1 100 Continue\r\n\r\n") }, transport, headBound, 0, false, nil},
		{"a head that drips", func(t *testing.T, w *wire) { w.drip("HTTP/1.1 200 OK\r\nX-Filler: aaaaaaaaa") }, transport, headBound, timeBound, false, nil},
		{"no answer", func(t *testing.T, w *wire) {}, transport, 0, timeBound, false, nil},
		{"an empty line", func(t *testing.T, w *wire) { w.say("\r\n"); w.Close() }, transport, lineBound, 0, false, nil},
		{"no HTTP", func(t *testing.T, w *wire) { w.say("SSH-2.0-\x1b[2JOpenSSH\r\n"); w.Close() }, transport, lineBound, 0, false, nil},
		{"a code that is none", func(t *testing.T, w *wire) { w.say("HTTP/1.1 2\x1b[2J OK\r\n\r\n") }, transport, lineBound, 0, false, nil},
		{"a negative code", func(t *testing.T, w *wire) { w.say("HTTP/1.1 -20 OK\r\n\r\n") }, transport, lineBound, 0, false, nil},
		{"a code below all", func(t *testing.T, w *wire) { w.body("000 OK", goodBody) }, status, lineBound, 0, true, nil},
		{"a code above all", func(t *testing.T, w *wire) { w.body("999 \x1b[2J", "x") }, status, lineBound, 0, false, nil},
		{"a broken header line", func(t *testing.T, w *wire) { w.say("HTTP/1.1 200 OK\r\nno colon \x1b[2J\r\n\r\n") }, transport, lineBound, 0, false, nil},
		{"NUL in a header", func(t *testing.T, w *wire) { w.say("HTTP/1.1 200 OK\r\nX-A\x00: \x00\r\n\r\n") }, transport, lineBound, 0, false, nil},

		// Codes that change the protocol, or have no body.
		{"101, then silence", func(t *testing.T, w *wire) {
			w.say("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
		}, status, lineBound, 0, true, nil},
		{"101, then a flood", func(t *testing.T, w *wire) {
			w.say("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
			w.flood(t, "x")
		}, status, lineBound, 0, true, nil},
		{"101 to nothing", func(t *testing.T, w *wire) { w.say("HTTP/1.1 101 Switching Protocols\r\n\r\n") }, status, lineBound, 0, true, nil},
		{"204", func(t *testing.T, w *wire) { w.say("HTTP/1.1 204 No Content\r\n\r\n") }, decode, lineBound, 0, false, nil},
		{"204 with a body after all", func(t *testing.T, w *wire) { w.body("204 No Content", goodBody); w.Close() }, decode, lineBound, 0, false, nil},
		{"206", func(t *testing.T, w *wire) { w.body("206 Partial Content", goodBody) }, none, lineBound, 0, true, nil},
		{"206 of a part", func(t *testing.T, w *wire) {
			w.body("206 Partial Content\r\nContent-Range: bytes 0-9/22", goodBody[:10])
		}, decode, lineBound, 0, false, nil},
		{"304", func(t *testing.T, w *wire) { w.say("HTTP/1.1 304 Not Modified\r\n\r\n") }, status, lineBound, 0, true, nil},

		// Bodies.
		{"an endless body", func(t *testing.T, w *wire) {
			w.say("%sConnection: close\r\n\r\n{\"result\":\"completed\",\"x\":\"", goodHead)
			w.flood(t, "a")
		}, decode, bodyBound, 0, false, errTooLarge},
		{"an endless space after the answer", func(t *testing.T, w *wire) {
			w.say("%sConnection: close\r\n\r\n%s", goodHead, goodBody)
			w.flood(t, " ")
		}, decode, bodyBound, 0, false, errTooLarge},
		{"an endless body of a fault", func(t *testing.T, w *wire) {
			w.say("HTTP/1.1 503 Busy\r\nConnection: close\r\n\r\n")
			w.flood(t, "a")
		}, status, errorBound, 0, false, nil},
		{"an endless body of a refusal", func(t *testing.T, w *wire) {
			w.say("HTTP/1.1 404 No\r\nConnection: close\r\n\r\n")
			w.flood(t, "a")
		}, status, errorBound, 0, true, nil},
		{"a body that drips", func(t *testing.T, w *wire) { w.say("%sConnection: close\r\n\r\n", goodHead); w.drip(" ") }, transport, lineBound, timeBound, false, nil},
		{"a body that drips, of a fault", func(t *testing.T, w *wire) {
			w.say("HTTP/1.1 503 Busy\r\nConnection: close\r\n\r\n")
			w.drip("x")
		}, status, lineBound, timeBound, false, nil},
		{"endless chunks", func(t *testing.T, w *wire) {
			w.say("%sTransfer-Encoding: chunked\r\n\r\n", goodHead)
			w.flood(t, "100\r\n"+strings.Repeat("a", 256)+"\r\n")
		}, decode, bodyBound * 17 / 16, 0, false, errTooLarge},
		{"endless chunks of a byte", func(t *testing.T, w *wire) {
			w.say("%sTransfer-Encoding: chunked\r\n\r\n", goodHead)
			w.flood(t, "1;"+strings.Repeat("a", 100)+"\r\n \r\n")
		}, transport, bodyBound, 0, false, nil},
		{"a chunk extension without end", func(t *testing.T, w *wire) {
			w.say("%sTransfer-Encoding: chunked\r\n\r\n1;", goodHead)
			w.flood(t, "a")
		}, transport, lineBound, 0, false, nil},
		{"a chunk of 8 EiB", func(t *testing.T, w *wire) {
			w.say("%sTransfer-Encoding: chunked\r\n\r\n7fffffffffffffff\r\n", goodHead)
			w.flood(t, "a")
		}, decode, bodyBound, 0, false, errTooLarge},
		{"a chunk size that overflows", func(t *testing.T, w *wire) {
			w.say("%sTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n", goodHead)
			w.flood(t, "a")
		}, transport, lineBound, 0, false, nil},
		{"trailers without end", func(t *testing.T, w *wire) {
			w.say("%sTransfer-Encoding: chunked\r\n\r\n16\r\n%s\r\n0\r\n", goodHead, goodBody)
			w.flood(t, "X-Filler: a\r\n")
		}, transport, lineBound, 0, false, nil},
		{"an unknown transfer encoding", func(t *testing.T, w *wire) { w.say("%sTransfer-Encoding: x\x1b[2J\r\n\r\n", goodHead) }, transport, lineBound, 0, false, nil},

		// Lies about the length.
		{"a length too large, then silence", func(t *testing.T, w *wire) { w.say("%sContent-Length: 100\r\n\r\n%s", goodHead, goodBody) }, transport, lineBound, timeBound, false, nil},
		{"a length too large, then the end", func(t *testing.T, w *wire) {
			w.say("%sContent-Length: 100\r\n\r\n%s", goodHead, goodBody)
			w.Close()
		}, transport, lineBound, 0, false, nil},
		{"a length of exabytes", func(t *testing.T, w *wire) {
			w.say("%sContent-Length: 9223372036854775807\r\n\r\n", goodHead)
			w.flood(t, "a")
		}, decode, bodyBound, 0, false, errTooLarge},
		{"a length too small", func(t *testing.T, w *wire) { w.say("%sContent-Length: 10\r\n\r\n%s", goodHead, goodBody) }, decode, lineBound, 0, false, nil},
		{"a length of zero", func(t *testing.T, w *wire) { w.say("%sContent-Length: 0\r\n\r\n%s", goodHead, goodBody) }, decode, lineBound, 0, false, nil},
		{"a negative length", func(t *testing.T, w *wire) { w.say("%sContent-Length: -1\r\n\r\n%s", goodHead, goodBody) }, transport, lineBound, 0, false, nil},
		{"a length that overflows", func(t *testing.T, w *wire) {
			w.say("%sContent-Length: 99999999999999999999\r\n\r\n%s", goodHead, goodBody)
		}, transport, lineBound, 0, false, nil},
		{"two lengths", func(t *testing.T, w *wire) {
			w.say("%sContent-Length: 22\r\nContent-Length: 10\r\n\r\n%s", goodHead, goodBody)
		}, transport, lineBound, 0, false, nil},

		// Encodings.
		{"a gzip bomb", func(t *testing.T, w *wire) { w.body("200 OK\r\nContent-Encoding: gzip", bomb) }, decode, bodyBound, 0, false, errTooLarge},
		{"a gzip bomb of a fault", func(t *testing.T, w *wire) { w.body("500 Oops\r\nContent-Encoding: gzip", bomb) }, status, errorBound, 0, false, nil},
		{"a gzip bomb in gzip", func(t *testing.T, w *wire) { w.body("200 OK\r\nContent-Encoding: gzip", gzipped(bomb)) }, decode, bodyBound, 0, false, nil},
		{"gzip that is damaged", func(t *testing.T, w *wire) {
			w.body("200 OK\r\nContent-Encoding: gzip", gzipped(goodBody)[:10]+goodBody)
		}, decode, lineBound, 0, false, nil},
		{"half of gzip", func(t *testing.T, w *wire) { w.body("200 OK\r\nContent-Encoding: gzip", gzipped(goodBody)[:20]) }, decode, lineBound, 0, false, nil},
		{"an encoding that was not asked for", func(t *testing.T, w *wire) { w.body("200 OK\r\nContent-Encoding: br", "\x0b\x0a\x80{}\x03") }, decode, lineBound, 0, false, nil},
		{"gzip declared twice", func(t *testing.T, w *wire) {
			w.body("200 OK\r\nContent-Encoding: gzip, gzip", gzipped(gzipped(goodBody)))
		}, decode, lineBound, 0, false, nil},

		// JSON.
		{"arrays 100,000 deep", func(t *testing.T, w *wire) { w.body("200 OK", deep) }, decode, bodyBound, 0, false, nil},
		{"a message 100,000 deep", func(t *testing.T, w *wire) { w.body("200 OK", `{"result":"completed","message":`+deep) }, decode, bodyBound, 0, false, nil},
		{"objects 100,000 deep", func(t *testing.T, w *wire) { w.body("200 OK", strings.Repeat(`{"result":`, 100_000)) }, decode, bodyBound, 0, false, nil},
		{"a number of megabytes", func(t *testing.T, w *wire) {
			w.body("200 OK", `{"result":`+strings.Repeat("9", 1<<20-100)+`}`)
		}, decode, bodyBound, 0, false, nil},
		{"a progress of megabytes", func(t *testing.T, w *wire) {
			w.body("200 OK", `{"result":"completed","progress":`+strings.Repeat("9", 1<<20-100)+`}`)
		}, none, bodyBound, 0, true, nil},
		{"a state of megabytes", func(t *testing.T, w *wire) {
			w.body("200 OK", `{"result":"`+strings.Repeat("\u202e", 300_000)+`"}`)
		}, state, bodyBound, 0, false, nil},
		{"a string above the bound", func(t *testing.T, w *wire) {
			w.body("200 OK", `{"result":"completed","x":"`+strings.Repeat("a", 1<<20)+`"}`)
		}, decode, bodyBound, 0, false, errTooLarge},
		{"NUL", func(t *testing.T, w *wire) { w.body("200 OK", "{\"result\":\"comp\x00leted\"}") }, decode, lineBound, 0, false, nil},
		{"NUL after the answer", func(t *testing.T, w *wire) { w.body("200 OK", goodBody+"\x00") }, decode, lineBound, 0, false, nil},
		{"an escaped NUL", func(t *testing.T, w *wire) { w.body("200 OK", `{"result":"completed\u0000"}`) }, state, lineBound, 0, false, nil},
		{"no UTF-8", func(t *testing.T, w *wire) { w.body("200 OK", "{\"result\":\"completed\xff\"}") }, state, lineBound, 0, false, nil},
		{"two byte order marks", func(t *testing.T, w *wire) { w.body("200 OK", "\ufeff\ufeff"+goodBody) }, decode, lineBound, 0, false, nil},
		{"two answers in one", func(t *testing.T, w *wire) { w.body("200 OK", goodBody+goodBody) }, decode, lineBound, 0, false, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var took, alloc int64
				var lasted time.Duration
				var before, after runtime.MemStats
				c, a := attacked(t, func(w *wire) {
					if w.number == 1 {
						tt.play(t, w)
					} else {
						w.good()
					}
				}, every(time.Second, 2))
				record := func() {
					synctest.Wait() // until the attacker, too, can do no more
					runtime.ReadMemStats(&after)
					took, alloc = a.took.Load(), int64(after.TotalAlloc-before.TotalAlloc)
				}
				runtime.ReadMemStats(&before)
				began := time.Now()
				var met []error
				st, err := c.Wait(t.Context(), "j", vtclient.OnError(func(err error) {
					record()
					met, lasted = append(met, err), time.Since(began)
				}))
				if tt.final {
					record()
					met, lasted = append(met, err), time.Since(began)
				} else if err != nil || st.State != vtclient.StateCompleted {
					t.Errorf("the wait ended with %+v, %v", st, err)
				}
				if n := a.requests.Load(); len(met) != 1 || tt.final != (n == 1) {
					t.Fatalf("%d requests, and met %q", n, met)
				}
				first := met[0]
				if kindOf(first) != tt.kind || tt.is != nil && !matches(first, tt.is) {
					t.Errorf("%T: %v", first, first)
				}
				if errors.Is(first, context.DeadlineExceeded) || errors.Is(first, context.Canceled) {
					t.Errorf("matches a context error, and the caller's context lives: %v", first)
				}
				checkText(t, first)
				if took > tt.bytes || alloc > allocBound || lasted != tt.lasts {
					t.Errorf("took %d bytes, want at most %d; allocated %d, want at most %d; lasted %v, want %v", took, tt.bytes, alloc, allocBound, lasted, tt.lasts)
				}
				if testing.Verbose() {
					t.Logf("%d bytes, %d allocated, %v: %.200s", took, alloc, lasted, fmt.Sprint(first))
				}
			})
		})
	}
}

// noisy is text that must not reach a terminal or a log as it is: sequences of a
// terminal, a title, C1 controls, all kinds of line breaks, overrides of the
// writing direction, the invisible, and what is no UTF-8.
const noisy = "\x1b[2J\x1b]8;;http://evil.test\x07\u009b31m\x7f\r\n2026/01/01 forged line\nlevel=ERROR msg=forged\u2028\u2029\u0085\u202e\u2066\u200b\ufeff\U000e0041\x00\xff end"

// Redirect to another host with credentials set, to a private scheme, a
// thousand redirects. None is followed away from the backend, and none more
// than redirectBound times.
func TestHostileRedirects(t *testing.T) {
	const redirectBound = 10 // requests for one exchange
	for _, tt := range []struct {
		name     string
		location func(number int) string
		requests int  // in all
		final    bool // else a fault, and the wait goes on
		follows  bool // to the end
	}{
		{"another host", to("http://evil.test/"), 1, true, false},
		{"another host without a scheme", to("//evil.test/status/j"), 1, true, false},
		{"another host with backslashes", to(`http:\\evil.test\`), 1, true, false},
		{"the host as a user name", to("http://api.test@evil.test/"), 1, true, false},
		{"the host as a user name and a port", to("http://api.test:80@evil.test/"), 1, true, false},
		{"a host that begins alike", to("http://api.test.evil.test/"), 1, true, false},
		{"a dot after the host", to("http://api.test./"), 2, true, true},
		{"two dots after the host", to("http://api.test../"), 1, true, false},
		{"the metadata service", to("http://169.254.169.254/latest/meta-data/"), 1, true, false},
		{"loopback", to("http://[::1]/"), 1, true, false},
		{"another port", to("http://api.test:8080/"), 1, true, false},
		{"https on another port", to("https://api.test:8443/"), 1, true, false},
		{"with a user and a password", to("http://us3r:p4ssw0rd@evil.test/"), 1, true, false},
		{"file", to("file:///etc/passwd"), 1, true, false},
		{"file on the host", to("file://api.test/etc/passwd"), 1, true, false},
		{"ftp", to("ftp://api.test/x"), 1, true, false},
		{"gopher", to("gopher://api.test:80/_GET"), 1, true, false},
		{"javascript", to("javascript:alert(1)"), 1, true, false},
		{"data", to("data:application/json,{\"result\":\"completed\"}"), 1, true, false},
		{"a scheme of one's own", to("x-vt+evil://api.test/"), 1, true, false},
		{"noise", to("http://evil.test/\x1b[2J\u009b31m\u202e"), 2, false, false}, // cannot be read
		{"noise in the host", to("http://e\u202evil.test/"), 1, true, false},
		{"a port that is none", to("http://api.test:x\x1b/"), 2, false, false},
		{"an escape that is none", to("http://api.test/%zz"), 2, false, false},
		{"a bare carriage return", to("/x\rX-Evil: 1"), 2, false, false},
		{"an escaped line break", to("/x%0d%0aX-Evil:%201"), 2, true, true},
		{"more slashes than a host needs", to("///evil.test/"), 2, true, true},
		{"a path of 32 KiB", to("/" + strings.Repeat("a", 32<<10)), 2, true, true},
		{"a path above the bound", to("/" + strings.Repeat("a", 70<<10)), 2, false, false},
		{"itself", func(int) string { return "/status/j" }, redirectBound, true, false},
		{"to and fro", func(n int) string { return fmt.Sprint("/", n%2) }, redirectBound, true, false},
		{"a thousand", func(n int) string { return fmt.Sprint("/", n) }, redirectBound, true, false},
		{"a thousand that grow", func(n int) string { return "/" + strings.Repeat("a", n*1000) }, redirectBound, true, false},
		{"a thousand, then away", func(n int) string {
			if n < 9 {
				return "/on"
			}
			return "http://evil.test/"
		}, 9, true, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, a := attacked(t, func(w *wire) {
					if strings.Contains(fmt.Sprint(w.request.Header, w.request.URL), "Evil") && !strings.Contains(w.request.RequestURI, "%0d%0a") {
						t.Errorf("a header got in: %q", w.request.Header)
					}
					if where := tt.location(w.number); where != "" {
						// Its body has no end, but a client that follows does not read on.
						w.say("HTTP/1.1 302 Found\r\nLocation: %s\r\nConnection: close\r\n\r\n", where)
						w.flood(t, "a")
						return
					}
					w.good()
				}, every(time.Second, 2), vtclient.WithHeader("X-Api-Key", "s3cr3t"))
				var met []error
				_, err := c.Wait(t.Context(), "j", vtclient.OnError(func(err error) { met = append(met, err) }))
				synctest.Wait()
				if n := a.requests.Load(); int(n) != tt.requests {
					t.Errorf("%d requests, want %d", n, tt.requests)
				}
				if err == nil == (tt.final && !tt.follows) {
					t.Errorf("the wait ended with %v", err)
				}
				if tt.final && err != nil {
					met = append(met, err)
				}
				var te *vtclient.TransportError
				switch {
				case tt.follows && len(met) > 0:
					t.Error(met)
				case tt.follows:
				case len(met) != 1 || !errors.As(met[0], &te) || tt.final != refusedRedirect(met[0]):
					t.Errorf("met %q", met)
				case strings.Contains(met[0].Error(), "p4ssw0rd") || strings.Contains(met[0].Error(), "s3cr3t"):
					t.Errorf("shows a secret: %v", met[0])
				default:
					checkText(t, met[0])
				}
				if took := a.took.Load(); took > int64(tt.requests)*(headBound+2*ioBuffer) {
					t.Errorf("took %d bytes", took)
				}
				a.dials.Range(func(addr, _ any) bool {
					if addr != "api.test:80" {
						t.Errorf("connected to %s", addr)
					}
					return true
				})
			})
		})
	}
}

// to redirects the first request.
func to(location string) func(int) string {
	return func(number int) string {
		if number == 1 {
			return location
		}
		return ""
	}
}

// A pause that the server asks for ends a wait at once where it is out of all
// reason, and on a pending answer it is cut: ten minutes by WithMaxRetryAfter.
func TestHostilePauses(t *testing.T) {
	const pauseBound = 10 * time.Minute
	for _, value := range []string{"601", "86400", "9223372036854775807", strings.Repeat("9", 10_000), "Fri, 31 Dec 9999 23:59:59 GMT"} {
		for _, head := range []string{"200 OK", "503 Busy", "429 Slow"} {
			synctest.Test(t, func(t *testing.T) {
				c, a := attacked(t, func(w *wire) {
					if w.number > 1 {
						w.good()
						return
					}
					w.body(head+"\r\nRetry-After: "+value, `{"result":"pending"}`)
				})
				began := time.Now()
				_, err := c.Wait(t.Context(), "j")
				took := time.Since(began)
				if head == "200 OK" {
					if err != nil || took != pauseBound || a.requests.Load() != 2 {
						t.Errorf("%.30s, %s: %v after %v, %d requests", value, head, err, took, a.requests.Load())
					}
					return
				}
				var h *vtclient.HTTPError
				if !errors.Is(err, vtclient.ErrRetryAfter) || !errors.As(err, &h) || h.RetryAfter <= pauseBound || took != 0 || a.requests.Load() != 1 {
					t.Errorf("%.30s, %s: %v after %v, %d requests", value, head, err, took, a.requests.Load())
				}
				checkText(t, err)
			})
		}
	}
}

// Pauses that are none, or that no time.Duration can hold, are never negative
// and never make a poll come sooner.
func TestPausesThatAreNone(t *testing.T) {
	for _, value := range []string{"-1", "-9223372036854775808", "1e9", "NaN", "0x10", "٣", noisyHeader, "Thu, 01 Jan 1970 00:00:00 GMT"} {
		synctest.Test(t, func(t *testing.T) {
			c, a := attacked(t, func(w *wire) {
				if w.number > 1 {
					w.good()
					return
				}
				w.body("503 Busy\r\nRetry-After: "+value, "")
			}, every(7*time.Second, 2))
			began := time.Now()
			if _, err := c.Wait(t.Context(), "j"); err != nil || time.Since(began) != 7*time.Second || a.requests.Load() != 2 {
				t.Errorf("%q: %v after %v", value, err, time.Since(began))
			}
		})
	}
}

// noisyHeader is what of noise gets through net/http in a header's value.
const noisyHeader = "\u009b31m\u202e\u2066\u200b\ufeff\u2028\U000e0041\xff end"

// Header injection through ids and messages, log injection. What comes
// from outside, by whatever way, becomes one printable line in every error, and
// one line of a log.
func TestNoiseFromOutsideStaysOnOneLine(t *testing.T) {
	inJSON := fmt.Sprintf("%+q", strings.ToValidUTF8(noisy, ""))
	inJSON = strings.NewReplacer(`\x1b`, `\u001b`, `\a`, `\u0007`, `\x7f`, `\u007f`, `\x00`, `\u0000`, `\U000e0041`, `\udb40\udc41`).Replace(inJSON)
	oversized := strings.Repeat("\u202e ☃", 20_000)
	for _, tt := range []struct {
		name string
		play func(w *wire)
		kind kind
	}{
		{"status line", func(w *wire) { w.say("HTTP/1.1 403 %s\r\nContent-Length: 0\r\n\r\n", noisyHeader) }, status},
		{"no status line", func(w *wire) { w.say("%s\r\n", noisy); w.Close() }, transport},
		{"error page", func(w *wire) { w.body("403 No", noisy) }, status},
		{"long error page", func(w *wire) { w.body("403 No", oversized) }, status},
		{"request id", func(w *wire) { w.body("403 No\r\nX-Request-Id: "+noisyHeader, "") }, status},
		{"long request id", func(w *wire) { w.body("403 No\r\nX-Request-Id: "+oversized[:60_000], "") }, status},
		{"header", func(w *wire) { w.say("HTTP/1.1 200 OK\r\n%s\r\n\r\n", noisy) }, transport},
		{"length", func(w *wire) { w.say("HTTP/1.1 200 OK\r\nContent-Length: %s\r\n\r\n", noisyHeader) }, transport},
		{"transfer encoding", func(w *wire) { w.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: %s\r\n\r\n", noisyHeader) }, transport},
		{"redirect", func(w *wire) { w.body("302 Found\r\nLocation: http://evil.test/"+noisyHeader, "") }, transport},
		{"redirect's host", func(w *wire) {
			w.body("302 Found\r\nLocation: http://e"+strings.ReplaceAll(noisyHeader, " ", "")+"/", "")
		}, transport},
		{"redirect that cannot be read", func(w *wire) { w.body("302 Found\r\nLocation: http://api.test:"+noisyHeader, "") }, transport},
		{"unreadable answer", func(w *wire) { w.body("200 OK", noisy) }, decode},
		{"state", func(w *wire) { w.body("200 OK", `{"result":`+inJSON+`}`) }, state},
		{"long state", func(w *wire) { w.body("200 OK", `{"result":"`+oversized+`"}`) }, state},
		{"message", func(w *wire) { w.body("200 OK", `{"result":"error","message":`+inJSON+`}`) }, none},
		{"long message", func(w *wire) { w.body("200 OK", `{"result":"error","message":"`+oversized+`"}`) }, none},
		{"chunk size", func(w *wire) { w.say("%sTransfer-Encoding: chunked\r\n\r\n%s\r\n", goodHead, noisyHeader) }, transport},
	} {
		for _, id := range []string{"j", "j" + noisy, strings.Repeat("\u202e", 600)} {
			t.Run(tt.name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					var log bytes.Buffer
					var r recorder
					c, _ := attacked(t, tt.play, vtclient.WithOutageTolerance(3*time.Second), every(time.Second, 2), vtclient.WithTrace(r.trace()),
						vtclient.WithLogger(slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: slog.LevelDebug}))))
					_, statusErr := c.Status(t.Context(), id)
					_, err := c.Wait(t.Context(), id, vtclient.OnError(func(err error) { checkText(t, err) }))
					if kindOf(err) != tt.kind {
						t.Errorf("%T: %v", err, err)
					}
					checkText(t, statusErr)
					checkText(t, err)
					for _, info := range r.infos {
						checkText(t, info.Err)
					}
					if n := strings.Count(log.String(), "\n"); n != len(r.infos)-strings.Count(r.String(), "sent")+2 { // the begin and the end of the wait
						t.Errorf("%d lines of log for %v", n, &r)
					}
					for line := range strings.Lines(log.String()) {
						if !strings.HasPrefix(line, "time=") || strings.ContainsFunc(strings.TrimSuffix(line, "\n"), func(r rune) bool { return !unicode.IsPrint(r) }) || len(line) > 2*textBound {
							t.Errorf("%.200q", line)
						}
					}
				})
			})
		}
	}
}

// The API key in a header, in the base URL's user part or in the query
// of the endpoint, repeated by the server wherever it can: it stands in no
// error, no log, no trace and no message.
func TestSecretsAreHiddenWhereverTheServerRepeatsThem(t *testing.T) {
	const (
		header   = `h3ad"er<&>'/+=k3y`
		user     = "us3r-n4me"
		password = `p4ss "w&rd/<`
		query    = "qu3ry+k3y/&="
		fresh    = "fr3sh-t0ken"
		asked    = "4sked-f0r"
	)
	secrets := []string{header, password, query, fresh, asked, "h3ad", "p4ss", "qu3ry", "fr3sh", "4sked", "w&rd", "w&amp;rd"}
	forms := map[string]func(string) string{
		"as it is": func(s string) string { return s },
		"JSON":     func(s string) string { b, _ := json.Marshal(s); return string(b) },
		"JSON without HTML": func(s string) string {
			var b strings.Builder
			e := json.NewEncoder(&b)
			e.SetEscapeHTML(false)
			e.Encode(s)
			return strings.TrimSpace(b.String())
		},
		"Go":    strconv.Quote,
		"HTML":  html.EscapeString,
		"XML":   func(s string) string { return strings.ReplaceAll(html.EscapeString(s), "&#34;", "&quot;") },
		"query": url.QueryEscape,
		"path":  url.PathEscape,
	}
	for where, play := range map[string]func(w *wire, s string){
		"error body":        func(w *wire, s string) { w.body("403 No", s) },
		"body of a fault":   func(w *wire, s string) { w.body("500 Oops", "<p>"+s) },
		"zipped error body": func(w *wire, s string) { w.body("403 No\r\nContent-Encoding: gzip", gzipped(s)) },
		"unreadable answer": func(w *wire, s string) { w.body("200 OK", s) },
		"too large":         func(w *wire, s string) { w.body("200 OK", s+strings.Repeat(" ", 1<<20)) },
		"cut off":           func(w *wire, s string) { w.body("404 No", strings.Repeat(" ", 64<<10-5)+s) },
		"request id":        func(w *wire, s string) { w.body("403 No\r\nX-Request-Id: "+s, "") },
		"status line":       func(w *wire, s string) { w.say("HTTP/1.1 403 %s\r\nContent-Length: 0\r\n\r\n", s) },
		"no status line":    func(w *wire, s string) { w.say("%s\r\n\r\n", s); w.Close() },
		"code":              func(w *wire, s string) { w.say("HTTP/1.1 %s OK\r\n\r\n", s) },
		"header":            func(w *wire, s string) { w.say("HTTP/1.1 200 OK\r\n%s\r\n\r\n", s) },
		"length":            func(w *wire, s string) { w.say("HTTP/1.1 200 OK\r\nContent-Length: %s\r\n\r\n", s) },
		"transfer encoding": func(w *wire, s string) { w.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: %s\r\n\r\n", s) },
		"redirect":          func(w *wire, s string) { w.body("302 Found\r\nLocation: http://evil.test/"+s, "") },
		"redirect's user":   func(w *wire, s string) { w.body("302 Found\r\nLocation: http://"+s+"@evil.test/", "") },
		"redirect's host":   func(w *wire, s string) { w.body("302 Found\r\nLocation: http://"+s+".evil.test/", "") },
		"redirect's port":   func(w *wire, s string) { w.body("302 Found\r\nLocation: http://api.test:"+s+"/", "") },
		"state": func(w *wire, s string) {
			b, _ := json.Marshal(s)
			w.body("200 OK", `{"result":`+string(b)+`}`)
		},
		"message of a failed job": func(w *wire, s string) {
			b, _ := json.Marshal(s)
			w.body("200 OK", `{"result":"error","message":`+string(b)+`}`)
		},
		"message of a pending job": func(w *wire, s string) {
			b, _ := json.Marshal(s)
			w.body("200 OK", `{"result":"pending","message":`+string(b)+`}`)
		},
		"message of a completed job": func(w *wire, s string) {
			b, _ := json.Marshal(s)
			w.body("200 OK", `{"result":"completed","message":`+string(b)+`}`)
		},
	} {
		t.Run(where, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				for name, form := range forms {
					var log bytes.Buffer
					level := &slog.HandlerOptions{Level: slog.LevelDebug}
					var r recorder
					c, a := attacked(t, func(w *wire) {
						// As it arrived, so that nothing here depends on the test.
						u, p, _ := strings.Cut(w.request.Header.Get("X-Userinfo"), ":")
						q := w.request.URL.Query()
						for _, s := range []string{w.request.Header.Get("X-Api-Key"), q.Get("key"), q.Get("asked"), strings.TrimPrefix(w.request.Header.Get("X-Auth"), "Bearer "), u + ":" + p, p} {
							if len(s) < 5 {
								t.Errorf("%q arrived: %v", s, w.request)
							}
						}
						i := int(w.number-1) % 5
						play(w, form([]string{w.request.Header.Get("X-Api-Key"), q.Get("key"), q.Get("asked"), strings.TrimPrefix(w.request.Header.Get("X-Auth"), "Bearer "), p}[i]))
					}, vtclient.WithHeader("X-Api-Key", header), vtclient.WithCache(nil), vtclient.WithBreaker(nil), once(), vtclient.WithTrace(r.trace()),
						vtclient.WithLogger(slog.New(slog.NewTextHandler(&log, level))), vtclient.WithLogger(slog.New(slog.NewJSONHandler(&log, level))),
						vtclient.WithEndpoint(vtclient.Endpoint{Path: "/job?of={id}&key=" + url.QueryEscape(query)}),
						vtclient.WithRequest(func(r *http.Request) error {
							r.URL.User = url.UserPassword(user, password)
							r.Header.Set("X-Auth", "Bearer "+fresh)
							r.Header.Set("X-Userinfo", user+":"+password)
							r.URL.RawQuery += "&asked=" + asked
							return nil
						}))
					var said strings.Builder
					for range 5 {
						st, err := c.Status(t.Context(), "job-17")
						fmt.Fprintln(&said, st.Message)
						for ; err != nil; err = errors.Unwrap(err) {
							fmt.Fprintf(&said, "%v %+v\n", err, err)
						}
					}
					if a.requests.Load() != 5 {
						t.Fatalf("%d requests", a.requests.Load())
					}
					for _, info := range r.infos {
						fmt.Fprintf(&said, "%v\n", info)
					}
					said.Write(log.Bytes())
					for _, secret := range secrets {
						if i := strings.Index(said.String(), secret); i >= 0 {
							t.Errorf("%s: %q stands in …%.300s", name, secret, said.String()[max(0, i-100):])
						}
					}
				}
			})
		})
	}
}

// The id is asked for in the query and is no secret.
func TestTheJobIDInAQueryIsShown(t *testing.T) {
	c := stubbed(t, func(r *http.Request) (*http.Response, error) {
		return respond(r, 404, "no job "+r.URL.Query().Get("of")), nil
	},
		vtclient.WithEndpoint(vtclient.Endpoint{Path: "/job?of={id}&key=s3cr3t"}))
	if _, err := c.Status(t.Context(), "job-17"); err == nil || !strings.Contains(err.Error(), `"no job job-17"`) {
		t.Error(err)
	}
}

// Header injection. What would begin a line of its own on the wire is
// refused by New, or ends the call before anything is sent, or is escaped.
func TestHeadersCannotBeInjected(t *testing.T) {
	for _, inject := range []string{"\r\nX-Evil: 1", "\nX-Evil: 1", "\rX-Evil: 1", "\x00", "\r\n\r\nGET /evil HTTP/1.1\r\nX-Evil: 1", "\x7f"} {
		synctest.Test(t, func(t *testing.T) {
			var arg *vtclient.ArgumentError
			for _, opt := range []vtclient.Option{
				vtclient.WithHeader("X-Key", "s3cr3t"+inject), vtclient.WithHeader("X-Key", inject), vtclient.WithHeader("X-Key"+inject, "s3cr3t"),
				vtclient.WithEndpoint(vtclient.Endpoint{Path: "/job?of={id}&x=" + inject}),
			} {
				_, err := vtclient.New("http://api.test", opt)
				if !errors.As(err, &arg) || strings.Contains(err.Error(), "s3cr3t") {
					t.Errorf("%q: %v", inject, err)
				}
				checkText(t, err)
			}
			if _, err := vtclient.New("http://api.test" + inject); !errors.As(err, &arg) {
				t.Errorf("%q: %v", inject, err)
			}

			var wires []string
			for name, change := range map[string]func(*http.Request){
				"value": func(r *http.Request) { r.Header.Set("X-Key", "s3cr3t"+inject) },
				"name":  func(r *http.Request) { r.Header["X-Key"+inject] = []string{"s3cr3t"} },
				"agent": func(r *http.Request) { r.Header.Set("User-Agent", "s3cr3t"+inject) },
				"none":  func(r *http.Request) { r.Header[""] = []string{"s3cr3t"} },
			} {
				b := &recordingBreaker{}
				c, a := attacked(t, func(w *wire) { w.good() }, vtclient.WithBreaker(b),
					vtclient.WithRequest(func(r *http.Request) error { change(r); return nil }))
				_, err := c.Wait(t.Context(), "j")
				var te *vtclient.TransportError
				if !errors.As(err, &te) || a.requests.Load() != 0 || strings.Contains(err.Error(), "s3cr3t") || !strings.Contains(err.Error(), "WithRequest has made a request that cannot be sent") {
					t.Errorf("%s, %q: %v, %d requests", name, inject, err, a.requests.Load())
				}
				checkText(t, err)
				if _, reported := b.recorded(); len(reported) != 1 || !errors.Is(reported[0], context.Canceled) {
					t.Errorf("%s, %q: the breaker got %v", name, inject, reported)
				}
			}

			for _, e := range []vtclient.Endpoint{{}, {Path: "/job?of={id}"}, {Path: "/job/{id}/status"}} {
				c, a := attacked(t, func(w *wire) {
					wires = append(wires, w.request.RequestURI)
					if len(w.request.Header) != 5 || w.request.Host != "api.test" { // Accept, Accept-Encoding, Cache-Control, Pragma, User-Agent
						t.Errorf("%q: %v", inject, w.request)
					}
					w.good()
				}, vtclient.WithEndpoint(e))
				if st, err := c.Wait(t.Context(), "j"+inject); err != nil || st.JobID != "j"+inject || a.requests.Load() != 1 {
					t.Errorf("%q: %v, %v, %d requests", inject, st, err, a.requests.Load())
				}
			}
			for _, uri := range wires {
				if strings.ContainsFunc(uri, func(r rune) bool { return r <= ' ' || r >= 0x7f }) {
					t.Errorf("%q", uri)
				}
			}
		})
	}
}

// Messages and bodies of jobs are the caller's as they came: nothing in them is taken for
// anything else. Of a key that is given twice the last value counts, and the id of another job
// in an answer is ignored.
func TestAnswersThatContradictThemselves(t *testing.T) {
	for _, tt := range []struct {
		body    string
		state   vtclient.State
		message string
	}{
		{`{"result":"completed","result":"pending"}`, "pending", ""},
		{`{"result":"pending","result":"error","message":"a","message":"b"}`, "error", "b"},
		{`{"result":"pending","RESULT":"completed"}`, "completed", ""},
		{`{"id":"other","job_id":"other","JobID":"other","result":"completed","State":"error","Cached":true}`, "completed", ""},
		{"{\"result\":\"error\",\"message\":\"HTTP/1.1 200 OK\\r\\nX-Evil: 1\\u0000\xff\"}", "error", "HTTP/1.1 200 OK\r\nX-Evil: 1\x00\ufffd"},
	} {
		c := stubbed(t, func(r *http.Request) (*http.Response, error) { return respond(r, 200, tt.body), nil })
		st, err := c.Status(t.Context(), "mine")
		if err != nil || st.JobID != "mine" || st.State != tt.state || st.Message != tt.message || st.Cached || st.State.Terminal() && string(st.Body) != tt.body {
			t.Errorf("%s: %+v, %v", tt.body, st, err)
		}
	}
}

// What one hostile answer leaves in the client: keptBound a job, whether it is
// waited for or cached, where a good one leaves a kilobyte or two.
func TestWhatHostileAnswersLeaveInTheClient(t *testing.T) {
	const (
		jobs      = 20
		size      = 256 << 10
		keptBound = 40 << 10
	)
	filler := strings.Repeat("9", size)
	for _, tt := range []struct {
		name string
		play func(w *wire)
		wait bool
	}{
		{"messages of pending jobs", func(w *wire) { w.body("200 OK", `{"result":"pending","message":"`+filler+`"}`) }, true},
		{"numbers that do not fit", func(w *wire) { w.body("200 OK", `{"result":`+filler+`}`) }, true},
		{"lines that cannot be read", func(w *wire) { w.say("HTTP/1.1 200 OK\r\n%s\r\n\r\n", filler[:60_000]) }, true},
		{"pages of errors", func(w *wire) { w.body("503 Busy", filler) }, true},
		{"request ids", func(w *wire) { w.body("503 Busy\r\nX-Request-Id: "+filler[:60_000], "") }, true},
		{"answers too large", func(w *wire) { w.body("200 OK", `{"result":"completed","x":"`+strings.Repeat(filler, 5)+`"}`) }, true},
		{"answers in the cache", func(w *wire) { w.body("200 OK", `{"result":"completed","x":"`+filler+`"}`) }, false},
		{"messages in the cache", func(w *wire) { w.body("200 OK", `{"result":"pending","message":"`+filler+`"}`) }, false},
		{"states", func(w *wire) { w.body("200 OK", `{"result":"`+filler+`"}`) }, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var before, after runtime.MemStats
				// Trickling in over the one connection, so that what is in flight does not count.
				c, _ := attacked(t, tt.play, vtclient.WithMaxInFlight(1), vtclient.WithCacheTTL(time.Hour, time.Hour), vtclient.WithBreaker(nil), vtclient.WithRetry(vtclient.Exponential{Base: time.Minute, Limit: 1}))
				runtime.GC()
				runtime.ReadMemStats(&before)
				var wg sync.WaitGroup
				errs := make([]error, jobs) // a caller may keep them
				ctx, leave := context.WithCancel(t.Context())
				for i := range jobs {
					wg.Go(func() {
						if tt.wait {
							c.Wait(ctx, fmt.Sprint(i))
						} else {
							_, errs[i] = c.Status(ctx, fmt.Sprint(i))
						}
					})
				}
				synctest.Wait()
				runtime.GC()
				runtime.GC() // what a pool holds goes with the second
				runtime.ReadMemStats(&after)
				if kept := int64(after.HeapAlloc) - int64(before.HeapAlloc); kept > jobs*keptBound {
					t.Errorf("%d bytes a job are kept, want at most %d", kept/jobs, keptBound)
				} else {
					t.Logf("%d bytes a job", kept/jobs)
				}
				leave()
				wg.Wait()
				runtime.KeepAlive(errs)
				runtime.KeepAlive(c)
			})
		})
	}
}

// Compressed data that unpacks to nothing keeps within every bound in bytes: it
// is the attempt's timeout that ends it. Over real sockets, since bytes that
// never cease leave a bubble's clock no moment to go on.
func TestEndlessCompressedNothing(t *testing.T) {
	var before, after runtime.MemStats
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a := &attacker{}
	a.refs.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			a.refs.Go(func() {
				a.serve(conn, func(w *wire) {
					w.say("HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nConnection: close\r\n\r\n")
					for nothing := strings.Repeat(gzipped(""), 100); w.say("%s", nothing); {
					}
				})
			})
		}
	})
	defer a.refs.Wait()
	defer ln.Close()
	c, err := vtclient.New("http://"+ln.Addr().String(), vtclient.WithTimeout(100*time.Millisecond), once())
	if err != nil {
		t.Fatal(err)
	}
	defer c.CloseIdleConnections()
	runtime.ReadMemStats(&before)
	_, err = c.Status(t.Context(), "j")
	runtime.ReadMemStats(&after)
	var te *vtclient.TransportError
	if !errors.As(err, &te) || !te.Timeout() {
		t.Error(err)
	}
	if alloc := after.TotalAlloc - before.TotalAlloc; alloc > allocBound {
		t.Errorf("%d bytes allocated", alloc)
	}
}

// Over HTTP/2 the same bounds hold.
func TestHostileAnswersOverHTTP2(t *testing.T) {
	for _, tt := range []struct {
		name string
		h    http.HandlerFunc
		kind kind
		is   error
	}{
		{"headers above the bound", func(w http.ResponseWriter, _ *http.Request) {
			for i := range 100 {
				w.Header().Set(fmt.Sprint("X-Filler-", i), strings.Repeat("a", 4000))
			}
			io.WriteString(w, goodBody)
		}, transport, nil},
		{"endless informational answers", func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Link", strings.Repeat("a", 1000))
			for range 10_000 {
				if w.WriteHeader(103); r.Context().Err() != nil {
					return
				}
			}
			io.WriteString(w, goodBody)
		}, transport, nil},
		{"an endless body", func(w http.ResponseWriter, _ *http.Request) {
			for filler := strings.Repeat("a", ioBuffer); ; {
				if _, err := io.WriteString(w, filler); err != nil {
					return
				}
			}
		}, decode, errTooLarge},
		{"a request id and a body full of noise", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("X-Request-Id", noisyHeader)
			w.WriteHeader(403)
			io.WriteString(w, noisy)
		}, status, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := httptest.NewUnstartedServer(tt.h)
			s.EnableHTTP2 = true
			s.Config.ErrorLog = log.New(io.Discard, "", 0)
			s.StartTLS()
			defer s.Close()
			old := http.DefaultTransport
			http.DefaultTransport = s.Client().Transport // the client clones it
			c, err := vtclient.New(s.URL, vtclient.WithHeader("X-Api-Key", "s3cr3t"), vtclient.WithTimeout(time.Minute), once())
			http.DefaultTransport = old
			if err != nil {
				t.Fatal(err)
			}
			defer c.CloseIdleConnections()
			_, err = c.Status(t.Context(), "j")
			if kindOf(err) != tt.kind || tt.is != nil && !matches(err, tt.is) {
				t.Errorf("%T: %v", err, err)
			}
			checkText(t, err)
			t.Log(err)
		})
	}
}

// Decode repeats no more than a line of what it was given.
func TestDecodeErrorsAreOneLine(t *testing.T) {
	for _, body := range []string{`{"n":` + strings.Repeat("9", 100_000) + `}`, "{\"n\":\"\u202e\x00\"}", `{"n":"x"}`, ""} {
		_, err := vtclient.Decode[struct{ N int }](vtclient.Status{JobID: "j" + noisy + strings.Repeat("j", 5000), State: noisy, Body: []byte(body)})
		if checkText(t, err); err == nil {
			t.Errorf("%.20s: no error", body)
		}
	}
	_, err := vtclient.Decode[struct{ N int }](vtclient.Status{JobID: "j", State: "completed", Body: []byte(`{"n":"x"}`)})
	var wrong *json.UnmarshalTypeError
	if !errors.As(err, &wrong) {
		t.Errorf("%v does not match what it was", err)
	}
}

// The texts of what the caller plugs in are held to one line, too: they may
// repeat what some server said.
func TestForeignErrorsStayOnOneLine(t *testing.T) {
	loud := errors.New(noisy)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(loud)
	answer := func(r *http.Request) (*http.Response, error) { return respond(r, 200, `{"result":"pending"}`), nil }
	for name, c := range map[string]*vtclient.Client{
		"breaker":     stubbed(t, answer, vtclient.WithBreaker(&recordingBreaker{refusal: loud})),
		"limiter":     stubbed(t, answer, once(), vtclient.WithLimiter(&countingLimiter{err: loud})),
		"WithRequest": stubbed(t, answer, once(), vtclient.WithRequest(func(*http.Request) error { return loud })),
		"transport":   stubbed(t, func(*http.Request) (*http.Response, error) { return nil, loud }, once()),
		"Decode": stubbed(t, answer, once(), vtclient.WithEndpoint(vtclient.Endpoint{Decode: func(vtclient.Answer) (vtclient.Status, error) {
			return vtclient.Status{}, loud
		}})),
		"redirect": stubbed(t, func(r *http.Request) (*http.Response, error) {
			return respond(r, 302, "", "Location: http://evil.test/"), nil
		}),
	} {
		_, err := c.Status(t.Context(), "j")
		if checkText(t, err); err == nil || name != "redirect" && !errors.Is(err, loud) {
			t.Errorf("%s: %v", name, err)
		}
	}
	var r recorder
	c := stubbed(t, answer, vtclient.WithCache(loudCache{loud}), vtclient.WithTrace(r.trace()))
	_, err := c.Status(ctx, "j")
	if checkText(t, err); !errors.Is(err, loud) {
		t.Error(err)
	}
	c.Status(t.Context(), "j")
	if err := r.last("cached").Err; !errors.Is(err, loud) {
		t.Error(err)
	} else {
		checkText(t, err)
	}
}

type loudCache struct{ err error }

func (c loudCache) Get(context.Context, string) (vtclient.Status, bool, error) {
	return vtclient.Status{}, false, c.err
}
func (c loudCache) Set(context.Context, string, vtclient.Status, time.Duration) error { return c.err }

// The error about refused credentials names where they come from.
func TestRefusedCredentialsAreHintedAt(t *testing.T) {
	for _, code := range []int{401, 403, 404} {
		for _, tt := range []struct {
			opt  vtclient.Option
			want string
		}{
			{vtclient.WithHeader("X-Api-Key", "k"), "; are the credentials right?"},
			{vtclient.WithEndpoint(vtclient.Endpoint{Path: "/{id}?key=k"}), "; are the credentials right?"},
			{vtclient.WithEndpoint(vtclient.Endpoint{Path: "/job?id={id}&key=k"}), "; are the credentials right?"},
			{vtclient.WithEndpoint(vtclient.Endpoint{Path: "/job?id={id}"}), "; WithHeader, WithRequest and the base URL bring no credentials"},
			{vtclient.WithHeader("Accept-Language", "de"), "; WithHeader, WithRequest and the base URL bring no credentials"},
		} {
			c := stubbed(t, func(r *http.Request) (*http.Response, error) { return respond(r, code, ""), nil }, tt.opt)
			want := fmt.Sprintf("not retried: a %d is final", code)
			if code != 404 {
				want += tt.want
			}
			if _, err := c.Status(t.Context(), "j"); err == nil || !strings.HasSuffix(err.Error(), want) {
				t.Errorf("%v; want …%s", err, want)
			}
		}
	}
}
