package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
)

// A part is a file that is not whole yet, beside its place and under another name. Its tag, by
// which the rest is matched with it, is in a file of its own. Without a tag nothing is
// resumed.
type part struct {
	file *os.File
	size int64
	tag  string
}

// openPart opens what an earlier run has left of a file, or a new one. It returns an error if
// another process has it open.
func openPart(path string) (*part, error) {
	name := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".part")
	file, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o666)
	if err != nil {
		return nil, err
	}
	if err := lockFile(file); err != nil {
		file.Close()
		return nil, fmt.Errorf("%s is being written by another process", name)
	}
	p := &part{file: file}
	tag, err := os.ReadFile(p.tagName())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		file.Close()
		return nil, err
	}
	if p.tag = string(tag); p.tag == "" {
		return p, p.restart("")
	}
	p.size, err = file.Seek(0, io.SeekEnd)
	return p, err
}

func (p *part) tagName() string { return p.file.Name() + ".etag" }

// restart begins anew, with the tag of what follows.
func (p *part) restart(tag string) error {
	if err := p.file.Truncate(0); err != nil {
		return err
	}
	_, err := p.file.Seek(0, io.SeekStart)
	p.size = 0
	if p.tag = tag; tag == "" || err != nil {
		os.Remove(p.tagName())
		return err
	}
	return os.WriteFile(p.tagName(), []byte(tag), 0o666)
}

// request asks for what is missing.
func (p *part) request(ctx context.Context, address string) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	switch {
	case address == "":
		return nil, &finalError{"the backend has no address of the result"}
	case err != nil || req.URL.Scheme != "http" && req.URL.Scheme != "https":
		return nil, &finalError{"the backend's address of the result is no URL"}
	}
	if p.size > 0 && p.tag != "" {
		req.Header.Set("Range", fmt.Sprintf("bytes=%d-", p.size))
		req.Header.Set("If-Range", p.tag)
	}
	return req, nil
}

// place makes ready for the body of an answer: what is there is kept if the body is the rest
// of it. all is the size of the whole file, -1 if that is not known. An answer 416 is no error
// if nothing is missing.
func (p *part) place(resp *http.Response) (all int64, err error) {
	switch code := resp.StatusCode; {
	case code == http.StatusOK:
		return resp.ContentLength, p.restart(strongTag(resp.Header))
	case code == http.StatusPartialContent:
		from, all := contentRange(resp.Header.Get("Content-Range"))
		if tag := strongTag(resp.Header); from != p.size || tag != "" && tag != p.tag {
			return -1, errors.Join(p.restart(""), errors.New("the server sends a part of another file"))
		}
		return all, nil
	case code == http.StatusRequestedRangeNotSatisfiable:
		if _, all := contentRange(resp.Header.Get("Content-Range")); all == p.size {
			return all, nil
		}
		return -1, errors.Join(p.restart(""), errors.New("the server has another file than before"))
	case code == http.StatusUnauthorized, code == http.StatusForbidden, code == http.StatusNotFound, code == http.StatusGone:
		return -1, fmt.Errorf("%w: %s", errExpired, resp.Status)
	case code >= 500, code == http.StatusRequestTimeout, code == http.StatusTooEarly, code == http.StatusTooManyRequests:
		return -1, errors.New("the result's server answers " + resp.Status)
	}
	return -1, &finalError{"the result's server answers " + resp.Status}
}

func (p *part) write(b []byte) error {
	n, err := p.file.Write(b)
	p.size += int64(n)
	return err
}

// finish gives the whole file its name.
func (p *part) finish(path string) error {
	if p.file == nil { // dropped
		return nil
	}
	if err := p.file.Sync(); err != nil {
		return err
	}
	if err := os.Rename(p.file.Name(), path); err != nil {
		return err
	}
	os.Remove(p.tagName())
	return nil
}

// drop removes the part: the file is there already.
func (p *part) drop() error {
	os.Remove(p.tagName())
	err := os.Remove(p.file.Name())
	p.file.Close()
	p.file = nil
	return err
}

func (p *part) close() {
	if p.file == nil {
		return
	}
	if info, err := p.file.Stat(); err == nil && info.Size() == 0 && p.tag == "" {
		os.Remove(p.file.Name())
	}
	p.file.Close()
}
