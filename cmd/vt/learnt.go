package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/vtclient/vtclient"
)

// maxLearnt bounds what is read of a file with what a cadence has learnt. The library
// writes 128 KiB at most.
const maxLearnt = 1 << 20

// A learntFile is the file of -learn.
type learntFile struct {
	path string // without links
	mode fs.FileMode
	part string // a file beside it, to be renamed
}

// openLearnt returns the file with its content, which is empty if there is no file yet.
// An error is returned here if the file could not be saved later.
func openLearnt(name string) (f *learntFile, content []byte, err error) {
	f = &learntFile{path: name, mode: 0o600}
	if f.path, err = followed(name); err != nil {
		return nil, nil, err
	}
	switch info, err := os.Stat(f.path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, nil, err
	case !info.Mode().IsRegular():
		return nil, nil, fmt.Errorf("%s: is a %v and not a regular file", name, info.Mode().Type())
	case info.Size() > maxLearnt:
		return nil, nil, fmt.Errorf("%s: %d bytes are more than the %d that such a file has at most", name, info.Size(), maxLearnt)
	default:
		f.mode = info.Mode().Perm()
		if content, err = readLearnt(f.path); err != nil {
			return nil, nil, err
		}
	}
	part, err := os.CreateTemp(filepath.Dir(f.path), "."+filepath.Base(f.path)+".*")
	if err != nil {
		return nil, nil, fmt.Errorf("%s cannot be saved: %w", name, err)
	}
	f.part = part.Name()
	return f, content, part.Close()
}

// readLearnt reads a file as the library wrote it, also after an editor has added a byte
// order mark or other line ends.
func readLearnt(path string) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxLearnt))
	if err != nil {
		return nil, err
	}
	text = bytes.TrimPrefix(text, []byte("\ufeff"))
	return bytes.ReplaceAll(text, []byte("\r\n"), []byte("\n")), nil
}

// followed returns the file that a path leads to through links, also where that file
// does not exist yet.
func followed(path string) (string, error) {
	for range 40 { // as many links as the kernel follows
		to, err := os.Readlink(path)
		if err != nil { // no link
			return path, nil
		}
		if !filepath.IsAbs(to) {
			to = filepath.Join(filepath.Dir(path), to)
		}
		path = to
	}
	return "", fmt.Errorf("%s: too many links", path)
}

// teach makes a cadence start with the content of the file.
func (f *learntFile) teach(a *vtclient.Adaptive, content []byte) error {
	if len(bytes.TrimSpace(content)) == 0 {
		return nil
	}
	if err := a.UnmarshalText(content); err != nil {
		return fmt.Errorf("%s: %w", f.path, err)
	}
	return nil
}

// save writes what a cadence has learnt, so that there is a whole state in the file at
// any time.
func (f *learntFile) save(a *vtclient.Adaptive) error {
	text, err := a.MarshalText()
	if err != nil {
		return err
	}
	if err := os.WriteFile(f.part, text, 0o600); err != nil {
		return err
	}
	if err := os.Chmod(f.part, f.mode); err != nil {
		return err
	}
	return os.Rename(f.part, f.path)
}

// discard removes what save has not renamed.
func (f *learntFile) discard() { _ = os.Remove(f.part) }
