package main

import (
	"bytes"
	"fmt"

	"github.com/vtclient/vtclient"
)

// maxLearnt bounds what is read of a file with what a cadence has learnt. The library
// writes 128 KiB at most.
const maxLearnt = 1 << 20

// A learntFile is the file of -learn.
type learntFile struct{ *savedFile }

// openLearnt returns the file with its content, which is empty if there is no file yet.
// An error is returned here if the file could not be saved later.
func openLearnt(name string) (f *learntFile, content []byte, err error) {
	saved, content, err := openSaved(name, maxLearnt)
	return &learntFile{saved}, content, err
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

// save writes what a cadence has learnt.
func (f *learntFile) save(a *vtclient.Adaptive) error {
	text, err := a.MarshalText()
	if err != nil {
		return err
	}
	return f.savedFile.save(text)
}
