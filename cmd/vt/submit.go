package main

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/vtclient/vtclient"
)

// languageList is a flag.Value: languages, with commas between. A comma in brackets belongs to
// a name, as in "Chinese (Cantonese, Traditional)".
type languageList []string

func (l *languageList) String() string { return strings.Join(*l, ",") }

func (l *languageList) Set(text string) error {
	depth := 0
	names := strings.FieldsFunc(text, func(r rune) bool {
		switch r {
		case '(':
			depth++
		case ')':
			depth--
		}
		return r == ',' && depth <= 0
	})
	for _, name := range names {
		if name = strings.TrimSpace(name); name != "" {
			*l = append(*l, name)
		}
	}
	if len(names) == 0 {
		return errors.New("no language")
	}
	return nil
}

// unique are the languages, each once.
func (l languageList) unique() (names []string) {
	seen := map[string]bool{}
	for _, name := range l {
		if !seen[name] {
			names = append(names, name)
		}
		seen[name] = true
	}
	return names
}

// submissionKey is the idempotency key of a video in a language. It follows from these, so
// that the same command after a crash finds the job that it has made before.
func submissionKey(video, language, again string) string {
	sum := sha256.Sum256([]byte("vt 1\x00" + video + "\x00" + language + "\x00" + again))
	return "vt-" + base64.RawURLEncoding.EncodeToString(sum[:])
}

// keyLife is how long a key is taken to be kept by the backend, which promises 24 hours.
const keyLife = 23 * time.Hour

// A submitter submits a video, in one language after the other: each is a job, with a key
// of its own.
type submitter struct {
	w       *waitRun
	state   *stateFile
	contact bool // the backend has answered
}

// jobs yields the jobs, which are submitted as they are read. It reports whether all
// were read.
func (s *submitter) jobs(ctx context.Context, yield func(vtclient.Job) bool) (all bool) {
	f := s.w.f
	for _, language := range f.languages.unique() {
		e := s.state.entry(&entry{Key: submissionKey(f.submit, language, f.again), Video: f.submit, Language: language, Again: f.again})
		found := e.Job != ""
		if !found {
			err := s.submit(ctx, e)
			if ctx.Err() != nil {
				return false
			}
			if err != nil {
				s.w.board.notSubmitted(language, err)
				continue
			}
		}
		if !s.w.board.addNamed(e.Job, language, e.Started) {
			s.w.board.notSubmitted(language, fmt.Errorf("the backend gave it the job %q, as it did another language", e.Job))
			continue
		}
		how := "submitted as "
		if found {
			how = "goes on as "
		}
		s.w.board.note(note{event: "submitted", text: language + ": " + how + e.Job, jobs: []string{e.Job}, language: language})
		if !yield(vtclient.Job{ID: e.Job, StartedAt: e.Started}) {
			return false
		}
	}
	return true
}

// submit submits a video in one language, through faults for as long as -outage.
func (s *submitter) submit(ctx context.Context, e *entry) error {
	if !e.Tried.IsZero() && time.Since(e.Tried) > keyLife {
		return fmt.Errorf("it was submitted at %s, the answer is not known, and its key no longer keeps the backend from doing it twice: look whether it has the job, and else repeat with -again", e.Tried.Format(time.RFC3339))
	}
	fresh := e.Tried.IsZero() && s.state.file != nil // else the job may be an older one
	if e.Tried.IsZero() {
		if err := s.state.change(func() { e.Tried = time.Now() }); err != nil {
			return err
		}
	}
	request := vtclient.HeyGenRequest{VideoURL: e.Video, Languages: []string{e.Language}}
	trouble := time.Now()
	for pause := time.Second; ; pause = min(2*pause, 15*time.Second) {
		jobs, err := s.w.client.Submit(ctx, e.Key, request)
		if err == nil {
			s.contact = true
			return s.state.change(func() {
				if e.Job = jobs[0].ID; fresh {
					e.Started = jobs[0].StartedAt
				}
			})
		}
		wait, again := s.next(err, time.Since(trouble), pause)
		if err = withoutKey(err, !again); !again || ctx.Err() != nil {
			return err
		}
		text := "not submitted yet: " + s.w.board.causeText("", err)
		s.w.board.note(note{event: "submitting", text: e.Language + ": " + text + "; again in " + seconds(wait), language: e.Language, err: s.w.board.errorText(err)})
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

// withoutKey is an error of a submission without its words about the key, which are for
// programs.
func withoutKey(err error, last bool) error {
	var failed *vtclient.SubmitError
	switch {
	case !errors.As(err, &failed):
		return err
	case last && failed.MaybeSubmitted:
		return fmt.Errorf("%w; it may have been submitted, which the same command finds out", failed.Err)
	}
	return failed.Err
}

// next reports whether an error of a submission is worth another try, and after what time. A
// 429 means that the backend is well and full, so it may last.
func (s *submitter) next(err error, trouble, pause time.Duration) (wait time.Duration, again bool) {
	var answer *vtclient.HTTPError
	var bad *vtclient.ArgumentError
	tolerance := time.Duration(s.w.f.outage)
	switch {
	case errors.As(err, &bad), errors.Is(err, vtclient.ErrFinal):
		return 0, false
	case errors.As(err, &answer):
		s.contact = true
		switch code := answer.StatusCode; {
		case code == http.StatusTooManyRequests:
			return max(pause, min(answer.RetryAfter, 10*time.Minute)), true
		case code < 500 && code != http.StatusRequestTimeout && code != http.StatusConflict && code != http.StatusTooEarly:
			return 0, false
		}
	case !s.contact:
		tolerance = min(tolerance, firstContact)
	}
	return pause, trouble+pause <= tolerance
}

// firstContact is for how long a backend that has never answered is tried: it is most likely
// a wrong address.
const firstContact = 30 * time.Second
