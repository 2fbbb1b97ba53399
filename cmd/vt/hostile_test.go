package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"unicode"
)

// attacked leads all connections to a server in memory that writes whatever
// play does: the bytes that an HTTP library would not let through, too. To be
// called in a bubble.
func attacked(t *testing.T, play func(w net.Conn, r *http.Request, number int)) {
	t.Helper()
	var refs sync.WaitGroup
	var mu sync.Mutex
	number := 0
	old := http.DefaultTransport
	http.DefaultTransport = &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) {
		client, server := net.Pipe()
		refs.Go(func() {
			defer server.Close()
			for r := bufio.NewReader(server); ; {
				req, err := http.ReadRequest(r)
				if err != nil {
					return
				}
				mu.Lock()
				number++
				n := number
				mu.Unlock()
				play(server, req, n)
			}
		})
		return client, nil
	}}
	t.Cleanup(func() {
		http.DefaultTransport = old
		refs.Wait()
	})
}

// inHeader is what of hostile an HTTP client takes in a header's value.
const inHeader = "\u009b31m\u202e\u2066\u200b\u2028\U000e0041\xffend"

// Terminal escape sequences must not reach the terminal, by whatever way
// they come and in whatever form vt reports; nor does the token, where the
// server repeats it.
func TestNothingHostileReachesTheTerminal(t *testing.T) {
	const token = "s3cret-t0ken"
	inJSON, _ := json.Marshal(hostile + token)
	body := func(w net.Conn, head, body string) {
		fmt.Fprintf(w, "HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s", head, len(body), body)
	}
	for _, tt := range []struct {
		name string
		code int
		play func(w net.Conn)
	}{
		{"status line", exitError, func(w net.Conn) { body(w, "403 "+inHeader+token, "") }},
		{"no status line", exitError, func(w net.Conn) { fmt.Fprint(w, hostile+token+"\r\n"); w.Close() }},
		{"code", exitError, func(w net.Conn) { fmt.Fprintf(w, "HTTP/1.1 %s%s OK\r\n\r\n", inHeader, token) }},
		{"header", exitError, func(w net.Conn) { fmt.Fprint(w, "HTTP/1.1 200 OK\r\n"+hostile+token+"\r\n\r\n") }},
		{"length", exitError, func(w net.Conn) { body(w, "200 OK\r\nContent-Length: "+inHeader+token, "") }},
		{"request id", exitError, func(w net.Conn) { body(w, "403 No\r\nX-Request-Id: "+inHeader+token, "") }},
		{"redirect", exitError, func(w net.Conn) { body(w, "302 Found\r\nLocation: http://evil.test/"+inHeader+token, "") }},
		{"redirect's host", exitError, func(w net.Conn) { body(w, "302 Found\r\nLocation: http://"+inHeader+token+"/", "") }},
		{"redirect's port", exitError, func(w net.Conn) { body(w, "302 Found\r\nLocation: http://api.test:"+inHeader+token, "") }},
		{"error page", exitError, func(w net.Conn) { body(w, "403 No", hostile+token) }},
		{"fault's page", exitError, func(w net.Conn) { body(w, "503 Busy", hostile+token) }},
		{"unreadable answer", exitError, func(w net.Conn) { body(w, "200 OK", hostile+token) }},
		{"unknown state", exitError, func(w net.Conn) { body(w, "200 OK", `{"result":`+string(inJSON)+`}`) }},
		{"message", exitJobFailed, func(w net.Conn) { body(w, "200 OK", `{"result":"error","message":`+string(inJSON)+`}`) }},
		{"message on the way", exitStillRunning, func(w net.Conn) {
			body(w, "200 OK", `{"result":"pending","progress":1e308,"message":`+string(inJSON)+`}`)
		}},
		{"pause", exitError, func(w net.Conn) { body(w, "503 Busy\r\nRetry-After: "+inHeader+token, "") }},
		{"message of a megabyte", exitJobFailed, func(w net.Conn) {
			body(w, "200 OK", `{"result":"error","message":"`+strings.Repeat("\u202e", 300_000)+`"}`)
		}},
	} {
		for _, mode := range []string{"terminal", "plain", "json"} {
			t.Run(tt.name+"/"+mode, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					attacked(t, func(w net.Conn, r *http.Request, _ int) {
						if r.Header.Get("Authorization") != "Bearer "+token {
							t.Errorf("%v", r.Header)
						}
						tt.play(w)
					})
					var term fakeTerminal
					c := call{args: []string{"wait", "-v", "-url", "http://api.test", "-outage", "5s", "-timeout", "20s", "x" + hostile}, env: map[string]string{"VT_TOKEN": token, "TERM": "xterm"}}
					switch mode {
					case "terminal":
						c.stdout = &term
					case "json":
						c.args = append(c.args, "-json")
					}
					r := c.run()
					wantCode(t, r, tt.code)
					written := strings.Join(term.writes, "")
					for _, piece := range []string{"\x1b[2J", "\x1b]", token} { // a fakeTerminal would take the first for vt's own
						if strings.Contains(r.stdout+r.stderr+written, piece) {
							t.Errorf("%q is in the output: %q", piece, r.stdout+r.stderr+written)
						}
					}
					for _, out := range []string{r.stdout, r.stderr} {
						for line := range strings.Lines(out) {
							if line = strings.TrimSuffix(line, "\n"); strings.ContainsFunc(line, func(r rune) bool { return !unicode.IsPrint(r) }) {
								t.Errorf("not printable: %q", line)
							}
							if strings.HasPrefix(strings.TrimSpace(line), "2026 forged") {
								t.Errorf("a line that vt did not write: %q", line)
							}
							if mode == "plain" && len(line) > 16<<10 {
								t.Errorf("a line of %d bytes", len(line))
							}
							if mode == "json" && !json.Valid([]byte(line)) {
								t.Errorf("no JSON: %q", line)
							}
						}
					}
					if r.stderr != "" {
						t.Errorf("standard error: %q", r.stderr)
					}
					term.check(t)
				})
			})
		}
	}
}

// What vt itself writes about arguments is escaped as well.
func TestHostileArgumentsAreEscaped(t *testing.T) {
	for _, args := range [][]string{
		{hostile}, {"help", hostile}, {"wait", "-" + hostile}, {"wait", "-timeout", hostile}, {"wait", "-duration", hostile}, {"wait", "-fault", hostile},
		{"wait", "-url", hostile}, {"wait", "-url", "http://h/" + hostile}, {"wait", "-url", "ftp://h/\u202e\u009b"}, {"wait", "-url", "http://h/\u202e\u009b"},
		{"wait", "-learn", "main.go/" + hostile[:20]}, {"serve", hostile}, {"serve", "-addr", hostile}, {"plan", hostile}, {"plan", "-simulate", hostile},
	} {
		r := vt(args...)
		if r.code != exitError {
			t.Errorf("%q: exit code %d", args, r.code)
		}
		out := r.stdout + r.stderr
		first, _, _ := strings.Cut(out, "\n")
		if strings.Contains(out, "\n2026 forged") || strings.ContainsFunc(out, func(r rune) bool { return r != '\n' && r != '\t' && !unicode.IsPrint(r) }) || first == "" {
			t.Errorf("%q: %q", args, out)
		}
	}
}

// What net/http logs on its own account, and cannot be kept from: bytes that a
// server sends unasked. They would tear vt's lines, and may hold the token.
func TestProcessDoesNotShowWhatServersSendUnasked(t *testing.T) {
	t.Parallel()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			if _, err := http.ReadRequest(bufio.NewReader(conn)); err != nil {
				return
			}
			const pending = `{"result":"pending"}`
			fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%sunasked s3cret", len(pending), pending)
		}
	}()
	cli := start(t, "vt wait", "wait", "-url", "http://"+ln.Addr().String(), "-every", "100ms", "-timeout", "1s", "j")
	cli.wantExit(exitStillRunning, "j: still running, ")
	if out := strings.Join(cli.seen, "\n"); strings.Contains(out, "nsolicited") || strings.Contains(out, "unasked") {
		t.Error(out)
	}
}
