package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// A savedFile is a file that is replaced as a whole, so that a process that is killed
// leaves the old content or the new one.
type savedFile struct {
	path string // without links
	mode fs.FileMode
}

// openSaved returns the file with its content, which is empty if there is no file yet.
// An error is returned here if the file could not be saved later. most bounds what is read.
func openSaved(name string, most int64) (f *savedFile, content []byte, err error) {
	f = &savedFile{path: name, mode: 0o600}
	if f.path, err = followed(name); err != nil {
		return nil, nil, err
	}
	switch info, err := os.Stat(f.path); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, nil, err
	case !info.Mode().IsRegular():
		return nil, nil, fmt.Errorf("%s: is a %v and not a regular file", name, info.Mode().Type())
	case info.Size() > most:
		return nil, nil, fmt.Errorf("%s: %d bytes are more than the %d that such a file has at most", name, info.Size(), most)
	default:
		f.mode = info.Mode().Perm()
		if content, err = readSaved(f.path, most); err != nil {
			return nil, nil, err
		}
	}
	part, err := f.create()
	if err != nil {
		return nil, nil, fmt.Errorf("%s cannot be saved: %w", name, err)
	}
	part.Close()
	return f, content, os.Remove(part.Name())
}

// readSaved reads a file, also after an editor has added a byte order mark or other line
// ends.
func readSaved(path string, most int64) ([]byte, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, most))
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

// create makes a file beside, to be renamed.
func (f *savedFile) create() (*os.File, error) {
	return os.CreateTemp(filepath.Dir(f.path), "."+filepath.Base(f.path)+".*")
}

// save replaces the content, on the disk too.
func (f *savedFile) save(text []byte) error {
	part, err := f.create()
	if err != nil {
		return err
	}
	_, err = part.Write(text)
	err = errors.Join(err, part.Chmod(f.mode), part.Sync(), part.Close())
	if err == nil {
		err = os.Rename(part.Name(), f.path)
	}
	if err != nil {
		os.Remove(part.Name())
	}
	return err
}
