package contract_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// The files of the root, by side. What waits, and decides about waits, is above; the
// exchange and what it is made of is below.
var (
	filesAbove = []string{
		"vtclient.go", "check.go", "wait.go", "waitall.go", "submit.go", "callers.go", "engine.go", "trip.go", "step.go",
		"poll.go", "trouble.go", "limits.go", "deadlines.go", "overdue.go", "times.go", "waits.go",
		"agenda.go", "pacing.go", "registry.go", "inbox.go", "subscription.go", "completions.go", "batch.go", "together.go", "sharing.go",
	}
	filesOfAnExchange = []string{
		"exchange.go", "admission.go", "contact.go", "http.go", "call.go", "connection.go", "body.go", "header.go", "classify.go", "fetch.go",
	}
	filesBelow = append([]string{
		"transport.go", "direct.go", "lazy.go", "plain.go", "retryafter.go", "latency.go", "clock.go", "recall.go",
		"endpoint.go", "bulk.go", "heygen.go", "heygen_error.go", "webhook.go", "webhook_heygen.go", "webhook_standard.go",
		"adaptive.go", "backoff.go", "breaker.go", "breaker_era.go", "cache.go", "status.go", "errors.go", "wrap.go", "trace.go",
		"options.go", "config.go",
	}, filesOfAnExchange...)
)

// Data flows one way: a stage uses no type, function or constant that is declared in a
// file above it. (Methods and fields it can reach only through those.) Every file of the
// root is on one side, and in both maps of the house.
func TestStagesPointOneWay(t *testing.T) {
	all, err := filepath.Glob("../../*.go")
	if err != nil {
		t.Fatal(err)
	}
	var sources []string
	for _, path := range all {
		if file := filepath.Base(path); !strings.HasSuffix(file, "_test.go") {
			sources = append(sources, file)
		}
	}
	listed := slices.Sorted(slices.Values(slices.Concat(filesAbove, filesBelow)))
	if !slices.Equal(sources, listed) {
		t.Errorf("the files of the root are\n%q,\nand listed are\n%q", sources, listed)
	}
	for _, document := range []string{"CONTRIBUTING.md", "docs/architecture.md"} {
		text, err := os.ReadFile("../../" + document)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range sources {
			if !regexp.MustCompile(`\b` + regexp.QuoteMeta(file)).Match(text) {
				t.Errorf("%s has no word of %s", document, file)
			}
		}
	}
	declared := map[string]string{} // the file of each name
	for _, file := range filesAbove {
		for name := range parse(t, file).Scope.Objects {
			declared[name] = file
		}
	}
	for _, file := range filesBelow {
		for _, id := range parse(t, file).Unresolved { // what no scope of the file itself has
			if from, ok := declared[id.Name]; ok {
				t.Errorf("%s uses %s of %s", file, id.Name, from)
			}
		}
	}
	// An exchange has no notion of the engine.
	for _, file := range filesOfAnExchange {
		ast.Inspect(parse(t, file), func(n ast.Node) bool {
			if id, ok := n.(*ast.Ident); ok && slices.ContainsFunc([]string{"poll", "engine", "inbox", "batch"}, func(word string) bool {
				return strings.Contains(strings.ToLower(id.Name), word)
			}) {
				t.Errorf("%s: %s", file, id.Name)
			}
			return true
		})
	}
}

func parse(t *testing.T, file string) *ast.File {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), "../../"+file, nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	return f
}
