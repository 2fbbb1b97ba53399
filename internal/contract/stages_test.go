package contract_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"slices"
	"strings"
	"testing"
)

// Data flows one way: a stage uses no type, function or constant that is declared in a
// file above it. (Methods and fields it can reach only through those.)
func TestStagesPointOneWay(t *testing.T) {
	above := []string{
		"vtclient.go", "check.go", "wait.go", "waitall.go", "submit.go", "poller.go", "poll.go", "engine.go",
		"callers.go", "trip.go", "step.go", "trouble.go", "limits.go", "agenda.go", "pacing.go", "registry.go", "inbox.go", "subscription.go",
		"deadlines.go", "completions.go", "batch.go", "together.go", "sharing.go", "overdue.go", "times.go", "waits.go",
	}
	declared := map[string]string{} // the file of each name
	for _, file := range above {
		if _, err := os.Stat("../../" + file); err == nil {
			for name := range parse(t, file).Scope.Objects {
				declared[name] = file
			}
		}
	}
	for _, file := range []string{
		"exchange.go", "admission.go", "contact.go", "http.go", "call.go", "connection.go", "body.go", "header.go", "classify.go", "fetch.go", "transport.go", "direct.go", "lazy.go",
		"retryafter.go", "latency.go", "clock.go", "plain.go", "endpoint.go", "breaker.go", "breaker_era.go", "cache.go", "recall.go",
		"status.go", "errors.go", "wrap.go", "trace.go", "backoff.go",
	} {
		f := parse(t, file)
		for _, id := range f.Unresolved { // what no scope of the file itself has
			if from, ok := declared[id.Name]; ok {
				t.Errorf("%s uses %s of %s", file, id.Name, from)
			}
		}
	}
	if len(declared) < 20 {
		t.Errorf("only %d names are declared above the stages", len(declared))
	}
	// The words of the engine are not known to an exchange at all.
	for _, file := range []string{"exchange.go", "admission.go", "http.go", "call.go", "connection.go", "body.go", "header.go", "classify.go", "fetch.go"} {
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
