// Command vt is vtclient from a terminal: it waits for video-translation jobs,
// and it simulates a backend to wait for. Run "vt help".
//
//	vt wait                                 waits for jobs of a simulated backend
//	vt wait -url URL job-17 job-18          waits for jobs of a real one
//	vt serve -auto-create                   is a simulated backend on a port
//	vt plan durations.txt                   compares ways of polling
//
// It speaks the plain API and, with -api heygen, HeyGen's for video translations,
// version 3, with the key from the environment variable HEYGEN_API_KEY:
//
//	vt wait -api heygen                     submits a video, receives webhooks and shows the
//	                                        results' URLs, all within this machine
//	vt wait -api heygen 4a1e6c 9f03bd       waits for translations of HeyGen's
//	vt wait -api heygen -submit URL -language German,French -download films
//	                                        has a video translated, and saves the results
//	vt serve -api heygen -webhook URL       is that API on a port, and sends webhooks, signed
//	                                        with HEYGEN_WEBHOOK_SECRET
//
// There is no flag for a key, a token or a secret, since other users of a machine can
// read a command line, and vt shows none, wherever a backend repeats it.
package main

import (
	"context"
	"io"
	"log"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	// net/http logs there what a server sends unasked: bytes that would tear our
	// lines and may repeat the token.
	log.SetOutput(io.Discard)
	// A closed pipe is then an error of the write, and what was learnt is saved.
	signal.Ignore(syscall.SIGPIPE)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	signals := make(chan os.Signal, 2)
	for _, s := range []os.Signal{os.Interrupt, syscall.SIGTERM, syscall.SIGHUP} {
		if !signal.Ignored(s) { // nohup and shells ignore some for what they start
			signal.Notify(signals, s)
		}
	}
	go func() {
		<-signals
		cancel()
		<-signals // a second Ctrl-C ends the process at once
		restoreEcho()
		os.Exit(exitInterrupted)
	}()
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr, os.Getenv))
}
