package vtclient

import (
	"bufio"
	"bytes"
	"compress/flate"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
)

// errorBody bounds in bytes what is read of the body of an answer that is an
// error: enough for any message, and for the connection to be used again after
// it.
const errorBody = 64 << 10

// readBody reads and closes the body of an answer. That of an error need not be
// readable: the status code is enough.
func (b *httpBackend) readBody(resp *http.Response, body *bodyBuffer) ([]byte, error) {
	switch {
	case resp.StatusCode == http.StatusSwitchingProtocols:
		// The body is the bare connection. No context ends its reads, so a server that
		// then sends nothing would hold the exchange for ever.
		resp.Body.Close()
		return nil, nil
	case resp.StatusCode/100 == 2:
		if err := body.read(resp, b.maxBody); err != nil {
			return body.b, err
		}
		return withoutMark(body.b)
	default:
		body.read(resp, min(b.maxBody, errorBody))
		return body.b, nil
	}
}

// A bodyBuffer is a body's bytes, to be used again.
type bodyBuffer struct{ b []byte }

var bodies = sync.Pool{New: func() any { return &bodyBuffer{b: make([]byte, 0, 1024)} }}

func (b *bodyBuffer) release() {
	if cap(b.b) <= errorBody { // one huge answer must not stay for ever
		b.b = b.b[:0]
		bodies.Put(b)
	}
}

// bodyTooLarge is the cause of an error about an answer above this many bytes. The text of
// the *http.MaxBytesError in it is about requests.
type bodyTooLarge int64

func (e bodyTooLarge) Error() string {
	return fmt.Sprintf("the body is larger than allowed: more than %d bytes", int64(e))
}

func (e bodyTooLarge) Unwrap() error { return &http.MaxBytesError{Limit: int64(e)} }

func tooLarge(err error) bool {
	var e bodyTooLarge
	return errors.As(err, &e)
}

// read reads the body of resp, at most limit bytes of it, and closes it.
func (b *bodyBuffer) read(resp *http.Response, limit int64) error {
	defer resp.Body.Close()
	src := io.Reader(resp.Body)
	if zipped(resp) {
		g := gunzips.Get().(*gunzip)
		defer g.release()
		g.reset(resp.Body)
		src = g
	}
	for {
		if len(b.b) == cap(b.b) {
			b.b = append(b.b, 0)[:len(b.b)]
		}
		n, err := src.Read(b.b[len(b.b):cap(b.b)])
		b.b = b.b[:len(b.b)+n]
		if int64(len(b.b)) > limit {
			b.b = b.b[:limit]
			return bodyTooLarge(limit)
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// zipped reports whether a body is compressed, and removes from the header what does not
// hold after it has been read, as net/http does.
func zipped(resp *http.Response) bool {
	switch e := resp.Header["Content-Encoding"]; {
	case len(e) != 1:
		return false
	case !strings.EqualFold(e[0], "gzip") && !strings.EqualFold(e[0], "x-gzip"):
		return false
	}
	resp.Header.Del("Content-Encoding")
	resp.Header.Del("Content-Length")
	return true
}

// A gunzip reads a compressed body. net/http would do so by itself if the client did not ask
// for gzip. But its errors do not show whether the network failed or the answer is damaged, and
// it cannot read an answer that is followed by other bytes, or that is not compressed although
// its header claims it.
type gunzip struct {
	source
	r      *bufio.Reader
	z      gzip.Reader
	began  bool
	inside bool // a member has begun
}

// A source keeps the error of a body.
type source struct {
	body io.Reader
	err  error
}

func (s *source) Read(p []byte) (int, error) {
	n, err := s.body.Read(p)
	if err != nil && err != io.EOF {
		s.err = err
	}
	return n, err
}

var gunzips = sync.Pool{New: func() any { return &gunzip{r: bufio.NewReader(nil)} }}

func (g *gunzip) reset(body io.Reader) {
	g.source = source{body: body}
	g.r.Reset(&g.source)
	g.began, g.inside = false, false
}

func (g *gunzip) release() {
	g.source = source{}
	gunzips.Put(g)
}

func (g *gunzip) Read(p []byte) (n int, err error) {
	if !g.began {
		g.began = true
		if magic, _ := g.r.Peek(2); len(magic) == 2 && magic[0] == 0x1f && magic[1] == 0x8b {
			if err := g.member(); err != nil {
				return 0, g.fault(err)
			}
		}
	}
	if !g.inside {
		return g.r.Read(p)
	}
	n, err = g.z.Read(p)
	if err != io.EOF {
		return n, g.fault(err)
	}
	if g.member() != nil && g.err == nil { // what follows is no gzip
		return n, io.EOF
	}
	return n, g.err
}

// member begins the next member of the stream.
func (g *gunzip) member() error {
	if err := g.z.Reset(g.r); err != nil {
		return err
	}
	g.z.Multistream(false)
	g.inside = true
	return nil
}

// fault is the error of the network, if there was one, or that of the answer.
func (g *gunzip) fault(err error) error {
	switch {
	case err == nil || g.err != nil:
		return g.err
	case err == io.EOF, err == io.ErrUnexpectedEOF:
		err = errors.New("it ends too early")
	}
	return &contentError{fmt.Errorf("damaged gzip: %w", err)}
}

// A contentError reports a body that arrived whole and cannot be read.
type contentError struct{ err error }

func (e *contentError) Error() string { return e.err.Error() }
func (e *contentError) Unwrap() error { return e.err }

// unreadableBody reports whether an error is one of the answer and not of the network.
// Where WithRequest takes Accept-Encoding away, it is net/http that decompresses.
func unreadableBody(err error) bool {
	var (
		content *contentError
		corrupt flate.CorruptInputError
	)
	return tooLarge(err) || errors.As(err, &content) || errors.As(err, &corrupt) ||
		errors.Is(err, gzip.ErrHeader) || errors.Is(err, gzip.ErrChecksum)
}

// withoutMark removes a byte order mark, which JSON must not have and some servers send.
func withoutMark(body []byte) ([]byte, error) {
	if bytes.HasPrefix(body, []byte("\xfe\xff")) || bytes.HasPrefix(body, []byte("\xff\xfe")) {
		return body, &contentError{errors.New("it is UTF-16, and JSON is UTF-8")}
	}
	return bytes.TrimPrefix(body, []byte("\ufeff")), nil
}
