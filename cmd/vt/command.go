package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/vtclient/vtclient"
	"github.com/vtclient/vtclient/simserver"
)

// The exit codes of all commands.
const (
	exitOK           = 0
	exitJobFailed    = 1
	exitError        = 2
	exitStillRunning = 4
	exitInterrupted  = 130 // as a shell reports a program that SIGINT ended
)

const usage = `vt waits for video-translation jobs, with few requests and through faults.

	vt wait [flags] [job ...]      wait for jobs; without -url for those of a
	                               simulated backend
	vt serve [flags]               run the simulated backend on a port
	vt plan [flags] [file]         compare ways of polling on given durations
	vt completion bash|zsh|fish    print a completion script for a shell
	vt version                     print the version
	vt help [command]              print more

Try "vt wait": it needs nothing else and takes about seven seconds. So does
"vt wait -api heygen", which shows HeyGen's API with its webhooks.
`

const exitCodes = `
Exit codes:
	0    all went well: the jobs completed, the plan is made, serve was stopped
	1    wait: a job failed
	2    an error: bad usage, no such job, backend unreachable, output or file
	     that cannot be written
	4    wait: time is up, and jobs are still running
	130  interrupted (Ctrl-C, SIGTERM or SIGHUP)

Environment:
	VT_TOKEN               wait, serve: the token that wait sends as
	                       "Authorization: Bearer", and that the simulated
	                       backend asks for
	HEYGEN_API_KEY         the same with -api heygen: the key, sent as
	                       "x-api-key"
	HEYGEN_WEBHOOK_SECRET  wait -listen, serve -webhook: what webhooks are
	                       signed with
	There are no flags for these, since other users of a machine can read a
	command line.
`

// An env is what a command may touch.
type env struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	getenv         func(string) string

	// simulate starts a simulated backend in this process; the options make a
	// client reach it.
	simulate func(...simserver.Option) (*simserver.Server, []vtclient.Option)

	// web reaches backends that are not simulated, and results. Nil: over the network.
	web *http.Client

	// listen makes a handler reachable at an address until stop is called.
	listen func(ctx context.Context, addr string, h http.Handler) (site, error)
}

// A site is a handler that is reachable.
type site struct {
	url       string // with no slash at its end
	transport http.RoundTripper
	stop      func()
}

// run runs one command and returns the exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer, getenv func(string) string) int {
	return (&env{
		stdin: stdin, stdout: stdout, stderr: stderr, getenv: getenv,
		simulate: func(opts ...simserver.Option) (*simserver.Server, []vtclient.Option) {
			return simserver.Start(nil, opts...), nil
		},
		listen: listen,
	}).run(ctx, args)
}

// run runs one command. Output that cannot be written ends it.
func (e *env) run(ctx context.Context, args []string) int {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	out := newCheckedWriter(e.stdout, cancel)
	e.stdout = out
	code := e.dispatch(ctx, args)
	if err := out.failure(); err != nil {
		return e.errorf("the output cannot be written: %v", err)
	}
	return code
}

func (e *env) dispatch(ctx context.Context, args []string) int {
	if len(args) == 0 {
		fmt.Fprint(e.stderr, indent(usage))
		return exitError
	}
	name, args := args[0], args[1:]
	if name == "help" || name == "-h" || name == "-help" || name == "--help" {
		if len(args) == 0 {
			fmt.Fprint(e.stdout, indent(usage+exitCodes))
			return exitOK
		}
		name, args = args[0], []string{"-h"}
	}
	switch name {
	case "wait":
		return e.wait(ctx, args)
	case "serve":
		return e.serve(ctx, args)
	case "plan":
		return e.plan(ctx, args)
	case "completion":
		return e.completion(args)
	case "version", "-version", "--version":
		fmt.Fprintln(e.stdout, "vt", version())
		return exitOK
	}
	fmt.Fprintf(e.stderr, "vt: unknown command %s\n\n%s", clean(fmt.Sprintf("%q", name)), indent(usage))
	return exitError
}

// indent makes a help text fit into 80 columns: tabs take four of them.
func indent(help string) string { return strings.ReplaceAll(help, "\t", "    ") }

// wrapped makes the list of flags that package flag prints fit into 80 columns.
func wrapped(flags string) string {
	const margin, most = "        ", 78
	var b strings.Builder
	column := 0
	for line := range strings.Lines(flags) {
		text, more := strings.CutPrefix(line, "    \t")
		if !more { // a flag's name
			b.WriteString("\n"[:min(1, b.Len())] + strings.TrimSuffix(line, "\n"))
			column = most
			continue
		}
		for _, word := range strings.Fields(text) {
			if column+1+len(word) > most {
				b.WriteString("\n" + margin + word)
				column = len(margin) + len(word)
				continue
			}
			b.WriteString(" " + word)
			column += 1 + len(word)
		}
	}
	return b.String() + "\n"
}

// version is the module's version, or the commit where it was built from a checkout.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "of an unknown build"
	}
	text := info.Main.Version
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && (text == "" || text == "(devel)") {
			text = s.Value
		}
	}
	if text == "" {
		text = "(devel)"
	}
	return text + " " + info.GoVersion
}

// errorf reports an error, escaped.
func (e *env) errorf(format string, args ...any) int {
	fmt.Fprintf(e.stderr, "vt: %s\n", clean(fmt.Sprintf(format, args...)))
	return exitError
}

// parse reads the arguments of a command. Flags may stand before, between and
// after other arguments; what follows "--" is no flag. If ok is false the
// command is over, with the exit code.
func (e *env) parse(fs *flag.FlagSet, synopsis string, args []string) (rest []string, code int, ok bool) {
	fs.SetOutput(io.Discard)
	var plain []string
	if i := slices.Index(args, "--"); i >= 0 {
		args, plain = args[:i], args[i+1:]
	}
	for {
		err := fs.Parse(args)
		if errors.Is(err, flag.ErrHelp) {
			fmt.Fprint(e.stdout, indent(strings.TrimLeft(synopsis, "\n")), "\nFlags:\n")
			var flags strings.Builder
			fs.SetOutput(&flags)
			fs.PrintDefaults()
			fmt.Fprint(e.stdout, wrapped(flags.String()), indent(exitCodes))
			return nil, exitOK, false
		}
		if err != nil {
			return nil, e.errorf("%s: %v; \"vt help %s\" lists the flags", fs.Name(), err, fs.Name()), false
		}
		if fs.NArg() == 0 {
			return append(rest, plain...), 0, true
		}
		rest, args = append(rest, fs.Arg(0)), fs.Args()[1:]
	}
}

// given returns the names of the flags that were set.
func given(fs *flag.FlagSet) map[string]bool {
	names := make(map[string]bool)
	fs.Visit(func(f *flag.Flag) { names[f.Name] = true })
	return names
}
