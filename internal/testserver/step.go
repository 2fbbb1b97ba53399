package testserver

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Step answers one request. A Step is a value and may be used in many scripts.
type Step struct {
	play  func(*exchange)
	times int
}

func step(play func(*exchange)) Step { return Step{play: play, times: 1} }

// Good answers.

// Reply answers with a status code and a body. Each header is a line,
// "Retry-After: 5". A Date, which is the server's time unless header has one,
// and the right Content-Length are added. The connection stays open.
func Reply(code int, body string, header ...string) Step {
	return step(func(x *exchange) { x.write(answer(x, code, body, strconv.Itoa(len(body)), header)) })
}

// JSON is a [Reply] whose Content-Type is application/json.
func JSON(code int, body string, header ...string) Step {
	return Reply(code, body, append([]string{"Content-Type: application/json"}, header...)...)
}

// Pending answers {"result":"pending"}.
func Pending(header ...string) Step { return JSON(200, `{"result":"pending"}`, header...) }

// Completed answers {"result":"completed"}.
func Completed(header ...string) Step { return JSON(200, `{"result":"completed"}`, header...) }

// Failed answers {"result":"error"} with a message, unless that is empty.
func Failed(message string) Step {
	if message == "" {
		return JSON(200, `{"result":"error"}`)
	}
	quoted, _ := json.Marshal(message) // a string always marshals
	return JSON(200, `{"result":"error","message":`+string(quoted)+`}`)
}

// Redirect answers 302 with a Location.
func Redirect(to string) Step { return Reply(http.StatusFound, "", "Location: "+to) }

// Handler lets a handler answer: for what depends on the request or on the time.
// What it writes is sent when it returns. The request's context ends when the
// server stops, but not when the client leaves. It runs on a goroutine that is
// not the test's, so it must not call FailNow.
func Handler(h http.HandlerFunc) Step {
	return step(func(x *exchange) {
		w := httptest.NewRecorder()
		h(w, x.request())
		var header []string
		for k, vs := range w.Result().Header {
			if k == "Content-Length" {
				continue // stated once, as it is
			}
			for _, v := range vs {
				header = append(header, k+": "+v)
			}
		}
		x.write(answer(x, w.Code, w.Body.String(), strconv.Itoa(w.Body.Len()), header))
	})
}

// Combinations.

// Delay plays a step after a while, or not at all where the client leaves before.
func Delay(d time.Duration, then Step) Step {
	play := then.play
	then.play = func(x *exchange) {
		if x.pause(d) {
			play(x)
		}
	}
	return then
}

// Closing plays a step and then closes the connection, unannounced: a request
// that is sent at once may still go out on it, and net/http repeats only a GET.
// To announce it, give the step the header "Connection: close".
func Closing(st Step) Step {
	play := st.play
	st.play = func(x *exchange) {
		play(x)
		x.hungUp = true
	}
	return st
}

// Times stands for n times the same step; n may be 0.
func Times(n int, st Step) Step {
	st.times *= max(n, 0)
	return st
}

// Broken connections.

// Drop closes the connection without an answer. Where the connection had served
// a request before, net/http repeats a GET by itself.
func Drop() Step { return step(func(x *exchange) { x.hungUp = true }) }

// Reset ends the connection without an answer by a TCP reset.
func Reset() Step { return step((*exchange).reset) }

// Silence never answers: it ends when the client leaves or the server stops.
func Silence() Step { return step((*exchange).silence) }

// HalfBody announces the whole body, sends the first half of it and closes.
func HalfBody(body string) Step {
	return step(func(x *exchange) {
		x.write(half(x, body))
		x.hungUp = true
	})
}

// HalfBodyReset is [HalfBody] with a TCP reset at the end.
func HalfBodyReset(body string) Step {
	return step(func(x *exchange) {
		x.write(half(x, body))
		x.reset()
	})
}

// HalfBodySilence is [HalfBody] that stays connected and sends no more.
func HalfBodySilence(body string) Step {
	return step(func(x *exchange) {
		if x.write(half(x, body)) {
			x.silence()
		}
	})
}

// SlowDrip sends the head at once and then the body, one byte after each gap.
func SlowDrip(body string, gap time.Duration) Step {
	return step(func(x *exchange) {
		all := answer(x, 200, body, strconv.Itoa(len(body)), jsonType)
		head := len(all) - len(body)
		if x.req.Method == http.MethodHead {
			head = len(all)
		}
		if x.write(all[:head]) {
			drip(x, all[head:], gap)
		}
	})
}

// SlowHead sends the whole answer, from its first line on, one byte after each gap.
func SlowHead(body string, gap time.Duration) Step {
	return step(func(x *exchange) {
		drip(x, answer(x, 200, body, strconv.Itoa(len(body)), jsonType), gap)
	})
}

// Wrong bytes.

// Raw writes bytes as they are and then closes the connection.
func Raw(s string) Step {
	return step(func(x *exchange) {
		x.write([]byte(s))
		x.hungUp = true
	})
}

// WrongLength sends a body under a Content-Length of another value and stays
// connected. Too large a length leaves the client waiting until it gives up. Too
// small a one cuts the body and leaves its rest on the connection: net/http
// closes that, unless the next request is so quick that it takes the rest for
// the beginning of its answer.
func WrongLength(body string, length int) Step {
	return step(func(x *exchange) { x.write(answer(x, 200, body, strconv.Itoa(length), jsonType)) })
}

// Garbage sends 512 bytes that are not HTTP, the same at each call, and closes.
func Garbage() Step {
	src := rand.NewChaCha8([32]byte{})
	p := make([]byte, 512)
	src.Read(p)
	return Raw("\x00" + string(p))
}

// GzipBomb answers with a gzip body of about size/1000 bytes that unpacks to a
// well-formed {"result":"completed",…} of exactly size bytes, which is at least
// 64. A client without a bound would believe it.
func GzipBomb(size int) Step {
	const open, end, member = `{"result":"completed","pad":"`, `"}`, 1 << 20
	pad := size - len(open) - len(end)
	if size < 64 {
		panic("testserver: GzipBomb of less than 64 bytes")
	}
	// A gzip body may be many gzip files in a row: one member that holds a
	// mebibyte is packed once and repeated.
	var b strings.Builder
	b.Write(pack([]byte(open)))
	if pad >= member {
		b.WriteString(strings.Repeat(string(pack(bytes.Repeat([]byte{'a'}, member))), pad/member))
	}
	b.Write(pack(append(bytes.Repeat([]byte{'a'}, pad%member), end...)))
	return JSON(200, b.String(), "Content-Encoding: gzip")
}

// EndlessBody sends a body without a length that goes on until the client leaves.
// A client that has taken a quarter of a gibibyte fails the test.
func EndlessBody() Step {
	return endless("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"+`{"result":"completed","pad":"`,
		strings.Repeat("a", 4096))
}

// EndlessHeaders sends header after header until the client leaves. A client
// that has taken a quarter of a gibibyte fails the test.
func EndlessHeaders() Step {
	return endless("HTTP/1.1 200 OK\r\n", strings.Repeat("X-Filler: "+strings.Repeat("a", 116)+"\r\n", 32))
}

func endless(head, more string) Step {
	return step(func(x *exchange) {
		const enough = 1 << 28
		ok := x.write([]byte(head))
		for sent := 0; ok; sent += len(more) {
			if sent >= enough {
				x.tb.Errorf("testserver: the client has taken %d bytes of an endless answer", sent)
				break
			}
			ok = x.write([]byte(more))
		}
		x.hungUp = true
	})
}

var jsonType = []string{"Content-Type: application/json"}

// answer lays out a response. It is done by hand, so that nothing mends what a step breaks.
func answer(x *exchange, code int, body, length string, header []string) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "HTTP/1.1 %d %s\r\n", code, http.StatusText(code))
	if !slices.ContainsFunc(header, func(h string) bool { return strings.HasPrefix(strings.ToLower(h), "date:") }) {
		b.WriteString("Date: " + time.Now().UTC().Format(http.TimeFormat) + "\r\n")
	}
	for _, h := range header {
		b.WriteString(h + "\r\n")
	}
	bodiless := code == http.StatusNoContent || code == http.StatusNotModified
	if !bodiless {
		b.WriteString("Content-Length: " + length + "\r\n")
	}
	b.WriteString("\r\n")
	if !bodiless && x.req.Method != http.MethodHead {
		b.WriteString(body)
	}
	return b.Bytes()
}

func half(x *exchange, body string) []byte {
	return answer(x, 200, body[:len(body)/2], strconv.Itoa(len(body)), jsonType)
}

func drip(x *exchange, p []byte, gap time.Duration) {
	for i := range p {
		if !x.pause(gap) || !x.write(p[i:i+1]) {
			return
		}
	}
}

func pack(p []byte) []byte {
	var b bytes.Buffer
	w, _ := gzip.NewWriterLevel(&b, gzip.BestCompression)
	w.Write(p)
	w.Close()
	return b.Bytes()
}
