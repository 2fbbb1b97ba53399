package contract_test

import (
	"crypto/tls"
	"encoding/binary"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/vtclient/vtclient"
)

// Types and flags of frames, and the codes of errors (RFC 9113, 6 and 7).
const (
	frameData, frameHeaders, frameReset, frameSettings, framePing, frameGoAway = 0, 1, 3, 4, 6, 7

	endStream, endHeaders, ack = 1, 4, 1

	noError, internalError, refusedStream, cancelled, calm, http1Required = 0, 2, 7, 8, 11, 13
)

// A framer is a connection of a server that writes its own frames of HTTP/2: net/http's
// server cannot be made to send most of them.
type framer struct {
	*tls.Conn
	old bool // it was made before the server began to fail
	mu  sync.Mutex
}

func (f *framer) write(kind, flags byte, stream uint32, payload ...byte) {
	h := []byte{byte(len(payload) >> 16), byte(len(payload) >> 8), byte(len(payload)), kind, flags}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.Conn.Write(append(binary.BigEndian.AppendUint32(h, stream), payload...))
}

func (f *framer) reset(stream, code uint32) {
	f.write(frameReset, 0, stream, binary.BigEndian.AppendUint32(nil, code)...)
}

// goAway announces that streams up to last were processed, and no later ones.
func (f *framer) goAway(last, code uint32) {
	f.write(frameGoAway, 0, 0, binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(nil, last), code)...)
}

var status200 = byte(0x88) // ":status: 200" in HPACK

func (f *framer) answer(stream uint32) {
	f.write(frameHeaders, endHeaders, stream, status200)
	f.write(frameData, endStream, stream, []byte(`{"result":"pending"}`)...)
}

// serve calls asked with the stream of each request.
func (f *framer) serve(asked func(f *framer, stream uint32)) {
	defer f.Close()
	if _, err := io.ReadFull(f, make([]byte, len("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"))); err != nil {
		return
	}
	f.write(frameSettings, 0, 0)
	head := make([]byte, 9)
	for {
		if _, err := io.ReadFull(f, head); err != nil {
			return
		}
		payload := make([]byte, int(head[0])<<16|int(head[1])<<8|int(head[2]))
		if _, err := io.ReadFull(f, payload); err != nil {
			return
		}
		switch kind, flags := head[3], head[4]; {
		case kind == frameHeaders:
			asked(f, binary.BigEndian.Uint32(head[5:]))
		case kind == frameSettings && flags&ack == 0:
			f.write(frameSettings, ack, 0)
		case kind == framePing && flags&ack == 0:
			f.write(framePing, ack, 0, payload...)
		}
	}
}

// Property 49: whatever ends a stream or a connection of HTTP/2 that has served before, the
// calls on it are tried again over another one.
func TestWhatEndsAStreamIsTriedAgain(t *testing.T) {
	some := httptest.NewTLSServer(nil)
	some.Close()
	for name, fail := range map[string]func(f *framer, stream uint32){
		"RST_STREAM, NO_ERROR":          func(f *framer, s uint32) { f.reset(s, noError) },
		"RST_STREAM, INTERNAL_ERROR":    func(f *framer, s uint32) { f.reset(s, internalError) },
		"RST_STREAM, CANCEL":            func(f *framer, s uint32) { f.reset(s, cancelled) },
		"RST_STREAM, ENHANCE_YOUR_CALM": func(f *framer, s uint32) { f.reset(s, calm) },
		"RST_STREAM, HTTP_1_1_REQUIRED": func(f *framer, s uint32) { f.reset(s, http1Required) },
		"REFUSED_STREAM and an end":     func(f *framer, s uint32) { f.reset(s, refusedStream); f.Close() },
		"RST_STREAM amid the body": func(f *framer, s uint32) {
			f.write(frameHeaders, endHeaders, s, status200)
			f.write(frameData, 0, s, []byte(`{"resu`)...)
			f.reset(s, internalError)
		},
		"GOAWAY, none processed":            func(f *framer, s uint32) { f.goAway(1, noError) },
		"GOAWAY, none processed, an end":    func(f *framer, s uint32) { f.goAway(1, noError); f.Close() },
		"GOAWAY, all processed, an end":     func(f *framer, s uint32) { f.goAway(1<<31-1, noError); f.Close() },
		"GOAWAY with an error, an end":      func(f *framer, s uint32) { f.goAway(1<<31-1, internalError); f.Close() },
		"GOAWAY, ENHANCE_YOUR_CALM, an end": func(f *framer, s uint32) { f.goAway(1, calm); f.Close() },
		"a frame where none may be":         func(f *framer, s uint32) { f.write(frameData, endStream, 0, 'x') },
		"headers that are none":             func(f *framer, s uint32) { f.write(frameHeaders, endHeaders, s, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff) },
		"an answer without a status":        func(f *framer, s uint32) { f.write(frameHeaders, endHeaders|endStream, s, 0x82) },
		"an end":                            func(f *framer, s uint32) { f.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ln, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: some.TLS.Certificates, NextProtos: []string{"h2"}})
			if err != nil {
				t.Fatal(err)
			}
			var failing atomic.Bool
			var serving sync.WaitGroup
			over := make(chan struct{})
			serving.Go(func() {
				for {
					conn, err := ln.Accept()
					if err != nil {
						return
					}
					f := &framer{Conn: conn.(*tls.Conn), old: !failing.Load()}
					serving.Go(func() { <-over; f.Close() }) // the transport may have dialled in vain
					serving.Go(func() {
						f.serve(func(f *framer, stream uint32) {
							if f.old && failing.Load() {
								fail(f, stream)
								return
							}
							f.answer(stream)
						})
					})
				}
			})
			tr := http.DefaultTransport.(*http.Transport).Clone()
			tr.TLSClientConfig = &tls.Config{RootCAs: some.Client().Transport.(*http.Transport).TLSClientConfig.RootCAs}
			b := &recordingBreaker{}
			c, err := vtclient.New("https://"+ln.Addr().String(), vtclient.WithHTTPClient(&http.Client{Transport: tr}), vtclient.WithCache(nil), once(), vtclient.WithTimeout(ample), vtclient.WithBreaker(b))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { ln.Close(); close(over); serving.Wait(); c.CloseIdleConnections() })
			if _, err := c.Status(t.Context(), "first"); err != nil {
				t.Fatal(err)
			}
			failing.Store(true)
			var wg sync.WaitGroup
			for i := range 20 {
				wg.Go(func() {
					if _, err := c.Status(t.Context(), fmt.Sprint(i)); err != nil {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			if _, reported := b.recorded(); fmt.Sprint(reported) != fmt.Sprint(make([]error, 21)) {
				t.Errorf("the breaker was given %v", reported)
			}
		})
	}
}
