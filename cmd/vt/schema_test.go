package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vtclient/vtclient"
	"github.com/vtclient/vtclient/simserver"
)

// A schema validates values by those keywords of JSON Schema that event.schema.json uses.
// Another keyword is an error.
type schema map[string]any

func eventSchema(t *testing.T) schema {
	t.Helper()
	raw, err := os.ReadFile("event.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var s schema
	if err := json.Unmarshal(raw, &s); err != nil {
		t.Fatal(err)
	}
	return s
}

// check returns what is wrong with v by the schema s, a part of root.
func (root schema) check(s map[string]any, v any) error {
	for _, keyword := range slices.Sorted(maps.Keys(s)) {
		if err := root.keyword(keyword, s, v); err != nil {
			return err
		}
	}
	return nil
}

func (root schema) keyword(keyword string, s map[string]any, v any) error {
	object, _ := v.(map[string]any)
	number, isNumber := v.(float64)
	text, isText := v.(string)
	arg := s[keyword]
	ok := true
	switch keyword {
	case "$schema", "$defs", "title", "description", "then", "format":
	case "$ref":
		name := strings.TrimPrefix(arg.(string), "#/$defs/")
		return root.check(root["$defs"].(map[string]any)[name].(map[string]any), v)
	case "oneOf":
		var errs []error
		for _, option := range arg.([]any) {
			if err := root.check(option.(map[string]any), v); err != nil {
				errs = append(errs, err)
			}
		}
		if len(errs) != len(arg.([]any))-1 {
			return fmt.Errorf("not one of the %d: %v", len(arg.([]any)), errs)
		}
	case "allOf":
		for _, part := range arg.([]any) {
			if err := root.check(part.(map[string]any), v); err != nil {
				return err
			}
		}
	case "if":
		if root.check(arg.(map[string]any), v) == nil {
			return root.check(s["then"].(map[string]any), v)
		}
	case "const":
		ok = reflect.DeepEqual(arg, v)
	case "enum":
		ok = slices.Contains(arg.([]any), v)
	case "minimum":
		ok = !isNumber || number >= arg.(float64)
	case "maximum":
		ok = !isNumber || number <= arg.(float64)
	case "pattern":
		ok = !isText || regexp.MustCompile(arg.(string)).MatchString(text)
	case "type":
		ok = map[string]bool{"object": object != nil, "string": isText, "number": isNumber, "integer": isNumber && number == float64(int(number)),
			"boolean": reflect.TypeOf(v) == reflect.TypeFor[bool](), "array": reflect.TypeOf(v) == reflect.TypeFor[[]any]()}[arg.(string)]
	case "required":
		for _, name := range arg.([]any) {
			if _, there := object[name.(string)]; !there {
				return fmt.Errorf("no member %q", name)
			}
		}
	case "items":
		for _, item := range v.([]any) {
			if err := root.check(arg.(map[string]any), item); err != nil {
				return err
			}
		}
	case "properties":
		for name, property := range arg.(map[string]any) {
			if member, there := object[name]; there {
				if err := root.check(property.(map[string]any), member); err != nil {
					return fmt.Errorf("%s: %w", name, err)
				}
			}
		}
	case "additionalProperties":
		for name := range object {
			if _, known := s["properties"].(map[string]any)[name]; !known {
				return fmt.Errorf("there is no member %q", name)
			}
		}
	default:
		return fmt.Errorf("the keyword %s is not implemented", keyword)
	}
	if !ok {
		return fmt.Errorf("%s %v: it is %v", keyword, arg, v)
	}
	return nil
}

// Each line of vt wait -json follows the schema, and each kind of line there is occurs.
func TestJSONFollowsTheSchema(t *testing.T) {
	root := eventSchema(t)
	seen := map[string]bool{}
	outcomes := map[any]bool{}
	check := func(t *testing.T, out string) {
		for line := range strings.Lines(out) {
			var v map[string]any
			if err := json.Unmarshal([]byte(line), &v); err != nil {
				t.Fatal(err)
			}
			seen[fmt.Sprint(v["event"])] = true
			outcomes[v["outcome"]] = true
			if err := root.check(root, v); err != nil {
				t.Errorf("%s%v", line, err)
			}
		}
	}
	for name, args := range map[string]string{
		"demo":        "",
		"faults":      "-duration uniform:1s-5m -fail-rate 30% -fault 503:20%,429:5%,drop:10%,cut:5%,garbage:5%,retry-after=2s a b c d e f",
		"heygen":      "-api heygen -page 127.0.0.1:0 -late-result 2s",
		"never there": "-api heygen -late-result 1h",
		"timeout":     "-timeout 2s -duration uniform:1s-5s a b c d e",
		"outage":      "-outage 5s -fault 503:1 a b",
		"refused id":  "-- .. a",
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { check(t, vt(append([]string{"wait", "-json"}, strings.Fields(args)...)...).stdout) })
		})
	}
	for _, expires := range []time.Duration{time.Hour, time.Microsecond} { // the second is over before it is used
		synctest.Test(t, func(t *testing.T) {
			sim := simserver.StartInMemory(t, simserver.WithJobLimit(1, 0), simserver.WithDurations(simserver.Fixed(10*time.Second)),
				simserver.WithDownloads(simserver.Downloads{Size: 1e6, Rate: 1e5, Expires: expires}))
			check(t, call{args: submitting(sim, "-json", "-language", "German,French", "-outage", "20s", "-download", t.TempDir()), web: sim.HTTPClient()}.run().stdout)
		})
	}
	var out bytes.Buffer
	b := newBoard(&jsonOutput{w: &out, words: strings.NewReplacer()}, true)
	if _, err := b.webhook("whsec", func(string) {}); err != nil {
		t.Fatal(err)
	}
	b.add("a")
	b.refused(io.ErrUnexpectedEOF)
	b.done(vtclient.Status{JobID: "a"}, &vtclient.WaitError{Cause: context.Canceled})
	b.finish()
	check(t, out.String())
	for name := range root["$defs"].(map[string]any) {
		if name != "time" && name != "row" && !seen[name] {
			t.Errorf("no line is a %s", name)
		}
	}
	for _, o := range []outcome{completed, failed, timeout, errored} {
		if !outcomes[string(o)] {
			t.Errorf("no outcome is %s", o)
		}
	}
}

// The schema refuses what does not belong: a validator that accepts all would prove nothing.
func TestSchemaRefuses(t *testing.T) {
	root := eventSchema(t)
	const good = `{"event":"done","time":"2026-01-02T15:04:05Z","job":"a","state":"failed","progress":0,"requests":1,"elapsed":2.5,"outcome":"failed"}`
	for _, change := range [][2]string{
		{``, ``}, {`"failed"}`, `"completed"}`}, {`"state":"failed"`, `"state":"error"`}, {`"progress":0`, `"progress":2`}, {`"requests":1`, `"requests":1.5`},
		{`"requests":1`, `"requests":-1`}, {`"time":"2026-01-02T15:04:05Z"`, `"time":"now"`}, {`,"outcome":"failed"`, ``}, {`"job":"a"`, `"job":1`}, {`"job"`, `"jobs"`},
		{`"elapsed":2.5`, `"elapsed":2.5,"more":1`}, {`"event":"done"`, `"event":"ended"`},
	} {
		var v any
		if err := json.Unmarshal([]byte(strings.Replace(good, change[0], change[1], 1)), &v); err != nil {
			t.Fatal(err)
		}
		if err := root.check(root, v); (err == nil) != (change[0] == "") {
			t.Errorf("%q in place of %q: %v", change[1], change[0], err)
		}
	}
}

// Signs that need no escape in JSON have none, so that an error reads as it was.
func TestJSONEscapesNoMoreThanItMust(t *testing.T) {
	if got, want := string(jsonLine(map[string]string{"x": "a > b & <c>"})), `{"x":"a > b & <c>"}`+"\n"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
