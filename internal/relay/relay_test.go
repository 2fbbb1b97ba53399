package relay

import (
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
)

// echo sends back what it gets.
func echo(t *testing.T) string {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { io.Copy(c, c); c.Close() }()
		}
	}()
	return ln.Addr().String()
}

func dial(t *testing.T, r *Relay) net.Conn {
	c, err := net.Dial("tcp", r.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// say sends a text and returns as many bytes of what comes back.
func say(c net.Conn, text string) (string, error) {
	io.WriteString(c, text)
	b := make([]byte, len(text))
	n, err := io.ReadFull(c, b)
	return string(b[:n]), err
}

func TestWhatBecomesOfConnections(t *testing.T) {
	r := Start(t, echo(t))
	c := dial(t, r)
	if got, err := say(c, "one"); got != "one" || err != nil {
		t.Errorf("passed on: %q, %v", got, err)
	}
	r.DamageToServer()
	if got, _ := say(c, "one"); got != "ond" {
		t.Errorf("damaged on the way to the server: %q", got)
	}
	r.DamageToClient()
	if got, _ := say(c, "one"); got != "ond" {
		t.Errorf("damaged on the way back: %q", got)
	}
	if got, _ := say(c, "one"); got != "one" {
		t.Errorf("only one piece is damaged: %q", got)
	}
	r.Cut()
	if _, err := say(c, "one"); err == nil {
		t.Error("a cut connection serves")
	}
	c = dial(t, r)
	say(c, "one")
	r.Reset()
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("reset: %v", err)
	}
	r.Next(Answer("no TLS here"), To(echo(t)))
	if got, _ := say(dial(t, r), "some longer hello"); got != "no TLS here" {
		t.Errorf("answered: %q", got)
	}
	if got, _ := say(dial(t, r), "one"); got != "one" || r.Accepted() != 4 {
		t.Errorf("after that: %q; %d connections", got, r.Accepted())
	}
}

// A silent connection stays open for the side that waits.
func TestSilence(t *testing.T) {
	r := Start(t, echo(t))
	c := dial(t, r)
	say(c, "one")
	r.Silence()
	read := make(chan error, 1)
	go func() { _, err := say(c, "two"); read <- err }()
	if got, _ := say(dial(t, r), "one"); got != "one" {
		t.Errorf("a new connection: %q", got)
	}
	select {
	case err := <-read:
		t.Errorf("the silent one: %v", err)
	default:
	}
	c.Close()
	<-read
}
