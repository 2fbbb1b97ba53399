package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"sync"
	"time"
)

// maxState bounds what is read of the file of -state: some hundred thousand languages.
const maxState = 64 << 20

// An entry is what is kept of one video in one language.
type entry struct {
	Key      string    `json:"key"` // of idempotency; names the entry
	Video    string    `json:"video"`
	Language string    `json:"language"`
	Again    string    `json:"again,omitempty"`
	Tried    time.Time `json:"tried,omitzero"` // when it was first submitted; zero: not yet
	Job      string    `json:"job,omitempty"`
	Started  time.Time `json:"started,omitzero"`
	File     string    `json:"file,omitempty"` // that the result was saved as
}

// A stateFile is the file of -state. With no path it keeps nothing.
type stateFile struct {
	mu      sync.Mutex
	file    *savedFile // nil: nothing is kept
	entries []*entry
}

// stateText is the content of the file.
type stateText struct {
	Version int      `json:"version"`
	Jobs    []*entry `json:"jobs"`
}

// openState reads the file; "" is none. An error is returned here if the file could not be
// saved later.
func openState(name string) (*stateFile, error) {
	s := &stateFile{}
	if name == "" {
		return s, nil
	}
	file, content, err := openSaved(name, maxState)
	if err != nil {
		return nil, err
	}
	s.file = file
	if len(bytes.TrimSpace(content)) == 0 {
		return s, nil
	}
	var text stateText
	if err := json.Unmarshal(content, &text); err != nil {
		return nil, fmt.Errorf("%s: not a file of -state: %w", name, err)
	}
	if text.Version != 1 {
		return nil, fmt.Errorf("%s: version %d of such files, want 1", name, text.Version)
	}
	for i, e := range text.Jobs {
		if e == nil || e.Key == "" {
			return nil, fmt.Errorf("%s: job %d has no key", name, i+1)
		}
	}
	s.entries = text.Jobs
	return s, nil
}

// entry returns the one with the key of e, which is e if there was none.
func (s *stateFile) entry(e *entry) *entry {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, old := range s.entries {
		if old.Key == e.Key {
			return old
		}
	}
	s.entries = append(s.entries, e)
	return e
}

// change changes an entry, and saves all.
func (s *stateFile) change(how func()) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	how()
	if s.file == nil {
		return nil
	}
	text, err := json.MarshalIndent(stateText{1, s.entries}, "", "  ")
	if err != nil {
		return err
	}
	if err := s.file.save(append(text, '\n')); err != nil {
		return fmt.Errorf("-state: %w", err)
	}
	return nil
}
