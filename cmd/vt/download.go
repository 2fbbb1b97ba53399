package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unicode"
	"unicode/utf8"
)

// A downloader saves the results of jobs in a folder, some at a time.
type downloader struct {
	w      *waitRun
	dir    string
	client *http.Client // adds no header of ours: it never sees the API's key
	state  *stateFile

	places chan struct{}
	under  sync.WaitGroup
	failed atomic.Int32

	mu    sync.Mutex
	names map[string]bool // given to files of this run
}

const (
	downloadsAtOnce = 4
	downloadSilence = 30 * time.Second // for which a server may send nothing
	freshAddresses  = 5                // in a row, without a byte in between
)

// newDownloader returns an error if nothing could be saved in the folder, which is made if it
// is not there.
func newDownloader(w *waitRun, dir string, state *stateFile) (*downloader, error) {
	if err := os.MkdirAll(dir, 0o777); err != nil {
		return nil, err
	}
	probe, err := os.CreateTemp(dir, ".vt-*")
	if err != nil {
		return nil, err
	}
	probe.Close()
	client := w.web
	if client == nil {
		transport := http.DefaultTransport.(*http.Transport).Clone()
		transport.ResponseHeaderTimeout = downloadSilence
		transport.DisableCompression = true // a part of a compressed file would be no part of it
		client = &http.Client{Transport: transport}
	}
	return &downloader{
		w: w, dir: dir, state: state, client: client,
		places: make(chan struct{}, downloadsAtOnce), names: map[string]bool{},
	}, os.Remove(probe.Name())
}

// start saves the result of a job at an address, in the background.
func (d *downloader) start(ctx context.Context, id, address string) {
	t := d.w.board.transferring(id, func(j *job) string { return filepath.Join(d.dir, d.name(j, address)) })
	d.under.Go(func() {
		d.places <- struct{}{}
		defer func() { <-d.places }()
		err := d.save(ctx, t, address)
		if err == nil {
			err = d.keep(id, t.path)
		}
		if err != nil {
			d.failed.Add(1)
		}
		d.w.board.transferred(t, err)
	})
}

// keep notes in the state file where a result is.
func (d *downloader) keep(id, path string) error {
	return d.state.change(func() {
		for _, e := range d.state.entries {
			if e.Job == id {
				e.File = path
			}
		}
	})
}

func (d *downloader) wait() {
	d.under.Wait()
	d.client.CloseIdleConnections()
}

var extension = regexp.MustCompile(`^\.[A-Za-z0-9]{1,5}$`)

// name is that of a result's file: the video's and the language, or the job's id.
func (d *downloader) name(j *job, address string) string {
	base := j.id
	if j.language != "" {
		base = "video"
		if u, err := url.Parse(d.w.f.submit); err == nil {
			if last := filepath.Base(u.Path); last != "." && last != "/" {
				base = strings.TrimSuffix(last, filepath.Ext(last))
			}
		}
		base += "." + j.language
	}
	ext := ".mp4"
	if u, err := url.Parse(address); err == nil && extension.MatchString(filepath.Ext(u.Path)) {
		ext = filepath.Ext(u.Path)
	}
	base = safeName(base)
	d.mu.Lock()
	defer d.mu.Unlock()
	name := base + ext
	for n := 2; d.names[name]; n++ {
		name = fmt.Sprintf("%s-%d%s", base, n, ext)
	}
	d.names[name] = true
	return name
}

// safeName makes a text the name of a file in any folder, and one that is not hidden.
func safeName(text string) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) && !strings.ContainsRune(`/\:*?"<>|`, r) {
			return r
		}
		return '_'
	}, text)
	for len(text) > 200 { // of the 255 bytes that file systems allow
		_, n := utf8.DecodeLastRuneInString(text)
		text = text[:len(text)-n]
	}
	if text = strings.TrimLeft(text, "."); text == "" {
		return "result"
	}
	return text
}

// A transfer is one result on its way into a file.
type transfer struct {
	job  *job
	path string
	got  atomic.Int64
	size atomic.Int64 // 0: not known yet
	over atomic.Bool
}

// text is how far it is, for people.
func (t *transfer) text() string {
	got, all := t.got.Load(), t.size.Load()
	switch {
	case all > 0:
		return fmt.Sprintf("downloading %d%% of %s", got*100/all, size(all))
	case got > 0:
		return "downloading, " + size(got)
	}
	return "downloading"
}

// errExpired is the reason to ask for a fresh address.
var errExpired = errors.New("the address has expired")

// save downloads a file, through faults for as long as -outage. What is there of it from an
// earlier run is kept. The file has its name once it is whole.
func (d *downloader) save(ctx context.Context, t *transfer, address string) error {
	part, err := openPart(t.path)
	if err != nil {
		return err
	}
	defer part.close()
	trouble, pause, expired := time.Now(), time.Second, 0
	for {
		before := part.size
		whole, err := d.get(ctx, t, part, address)
		if whole {
			return errors.Join(err, part.finish(t.path))
		}
		if part.size > before {
			trouble, pause, expired = time.Now(), time.Second, 0
		}
		if errors.Is(err, errExpired) && expired <= freshAddresses {
			fresh, ferr := d.fresh(ctx, t.job.id)
			if ferr == nil {
				address = fresh
				if expired++; expired == 1 {
					continue
				}
			} else {
				err = ferr
			}
		}
		var final *finalError
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("interrupted after %s; the same command goes on from there", size(part.size))
		case errors.As(err, &final), errors.Is(err, errExpired) && expired > freshAddresses:
			return err
		case time.Since(trouble) > time.Duration(d.w.f.outage):
			return fmt.Errorf("after %s: %w", size(part.size), err)
		}
		if sleep(ctx, pause) == nil {
			pause = min(2*pause, 15*time.Second)
		}
	}
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

// fresh asks for a new address of a job's result.
func (d *downloader) fresh(ctx context.Context, id string) (string, error) {
	st, err := d.w.client.Status(ctx, id)
	if err != nil {
		return "", err
	}
	if address := d.w.f.api.result(st.Body); address != "" {
		return address, nil
	}
	return "", errors.New("the backend has no address of the result any more")
}

// A finalError is one that no further request changes.
type finalError struct{ text string }

func (e *finalError) Error() string { return e.text }

// get makes one request for what is missing of a file, and reports whether it is whole.
func (d *downloader) get(ctx context.Context, t *transfer, part *part, address string) (whole bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	req, err := part.request(ctx, address)
	if err != nil {
		return false, err
	}
	resp, err := d.client.Do(req)
	if err != nil {
		var u *url.Error
		if errors.As(err, &u) {
			err = u.Err // without the address, which is a secret
		}
		return false, err
	}
	defer resp.Body.Close()
	all, err := part.place(resp)
	switch {
	case err != nil:
		return false, err
	case resp.StatusCode == http.StatusOK && same(t.path, all):
		t.got.Store(all)
		return true, part.drop()
	case resp.StatusCode == http.StatusRequestedRangeNotSatisfiable:
		return true, nil
	}
	t.size.Store(max(all, 0))
	if err := copyTo(t, part, resp.Body, func() { cancel(errSilent) }); err != nil {
		if context.Cause(ctx) == errSilent {
			err = errSilent
		}
		return false, err
	}
	if all >= 0 && part.size != all {
		return false, fmt.Errorf("%d bytes of %d arrived", part.size, all)
	}
	return true, nil
}

var errSilent = fmt.Errorf("the server has sent nothing for %v", downloadSilence)

// copyTo appends a body to the part. One that is silent for too long is cancelled.
func copyTo(t *transfer, part *part, body io.Reader, cancel func()) error {
	silence := time.AfterFunc(downloadSilence, cancel)
	defer silence.Stop()
	t.got.Store(part.size)
	buf := make([]byte, 64<<10)
	for {
		n, err := body.Read(buf)
		silence.Reset(downloadSilence)
		if werr := part.write(buf[:n]); werr != nil {
			return &finalError{werr.Error()}
		}
		t.got.Store(part.size)
		switch {
		case err == io.EOF:
			return nil
		case err != nil:
			return err
		}
	}
}

// same reports whether there is a file of that size already.
func same(path string, size int64) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && size > 0 && info.Size() == size
}

// strongTag is an ETag by which a part can be matched with the rest; "": there is none.
func strongTag(h http.Header) string {
	if tag := h.Get("ETag"); strings.HasPrefix(tag, `"`) && len(tag) < 1000 {
		return tag
	}
	return ""
}

// contentRange reads "bytes 10-99/100" and "bytes */100"; -1 is what is not there.
func contentRange(text string) (from, all int64) {
	text, ok := strings.CutPrefix(text, "bytes ")
	span, total, found := strings.Cut(text, "/")
	if !ok || !found {
		return -1, -1
	}
	number := func(s string) int64 {
		if n, err := strconv.ParseInt(s, 10, 64); err == nil && n >= 0 {
			return n
		}
		return -1
	}
	first, _, _ := strings.Cut(span, "-")
	return number(first), number(total)
}
