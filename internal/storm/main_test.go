package storm

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/vtclient/vtclient/internal/leak"
)

// The test binary plays the other processes too: run with one of these set to a
// configuration in JSON, it is no test but a server or a client.
const (
	serverEnv = "VTCLIENT_STORM_SERVER"
	clientEnv = "VTCLIENT_STORM_CLIENT"
)

func TestMain(m *testing.M) {
	play := func(text string, cfg any, role func() error) {
		err := json.Unmarshal([]byte(text), cfg)
		if err == nil {
			err = role()
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if text := os.Getenv(serverEnv); text != "" {
		var cfg serverConfig
		play(text, &cfg, func() error { return serve(cfg) })
	}
	if text := os.Getenv(clientEnv); text != "" {
		var cfg clientConfig
		play(text, &cfg, func() error { return waitFor(cfg) })
	}
	leak.Main(m)
}

// patience bounds every wait for something that is sure to come.
const patience = 2 * time.Minute

// A process is this test binary in another role.
type process struct {
	t     *testing.T
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines chan string // of its output; closed at the end
	err   error       // of the process, once lines is closed
}

// start runs the test binary in a role until the test ends.
func start(t *testing.T, role string, cfg any) *process {
	t.Helper()
	text, err := json.Marshal(cfg)
	if err != nil {
		t.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, cmd: exec.Command(exe), lines: make(chan string, 1<<10)}
	p.cmd.Env = append(os.Environ(), role+"="+string(text))
	p.cmd.Stderr = os.Stderr
	if p.in, err = p.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out, err := p.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.lines)
		r := bufio.NewReader(out)
		for {
			line, err := r.ReadString('\n')
			if err != nil { // what a killed process has begun to write is no line
				break
			}
			p.lines <- strings.TrimSuffix(line, "\n")
		}
		p.err = p.cmd.Wait()
	}()
	t.Cleanup(p.kill)
	return p
}

// line returns the next line of the output; ok is false at its end.
func (p *process) line() (text string, ok bool) {
	p.t.Helper()
	select {
	case text, ok = <-p.lines:
		return text, ok
	case <-time.After(patience):
		p.t.Fatal("the process prints nothing more")
		return "", false
	}
}

// kill ends the process as SIGKILL does, and reads what it had written.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	p.rest()
}

// rest waits for the end of the process and returns what it had still to say.
func (p *process) rest() (lines []string) {
	p.in.Close()
	for line := range p.lines {
		lines = append(lines, line)
	}
	return lines
}

// processes skips a test that needs them where they cannot be had.
func processes(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("runs processes in real time")
	}
	if runtime.GOOS == "windows" {
		t.Skip("kills processes as SIGKILL does, and starts them on the same port")
	}
}
