// Command bounds keeps the code readable: it checks that no file, function or type has
// grown beyond what a reader takes in at a glance.
//
//	go run -C tools ./bounds -exports 84 .. ../simserver
//
// It looks at the files of the given folders that are no tests, and at the exported
// top-level names of the first one. A finding that is in exceptions.txt is let pass, and
// an exception that no finding needs any more has to be removed: the list only shrinks.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/fzipp/gocyclo"
)

const (
	fileLines     = 400
	functionLines = 60
	complexity    = 15 // cyclomatic
	methods       = 25 // of one type
)

func main() {
	if err := run(os.Args[1:], os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "bounds:", err)
		os.Exit(1)
	}
}

func run(args []string, out io.Writer) error {
	flags := flag.NewFlagSet("bounds", flag.ContinueOnError)
	exports := flags.Int("exports", 0, "the most exported top-level names of the first folder; 0: any number")
	list := flags.String("exceptions", "bounds/exceptions.txt", "the `file` of findings to let pass")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() == 0 {
		return fmt.Errorf("no folder given")
	}
	var found []finding
	for i, dir := range flags.Args() {
		c := checker{root: flags.Arg(0), methods: map[string]int{}}
		if err := c.folder(dir); err != nil {
			return err
		}
		if i == 0 && *exports > 0 {
			fmt.Fprintf(out, "%d exported names\n", c.exported)
			c.check(".", "exports", c.exported, *exports)
		}
		found = append(found, c.found...)
	}
	text, err := os.ReadFile(*list)
	if err != nil {
		return err
	}
	return settle(found, string(text), out)
}

// A finding is a thing that is too large. Its key has no number, so that it stays the
// same while the thing grows or shrinks.
type finding struct{ key, text string }

// settle reports the findings that are no exceptions, and the exceptions without a finding.
func settle(found []finding, exceptions string, out io.Writer) error {
	allowed := map[string]bool{}
	for line := range strings.Lines(exceptions) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			allowed[line] = false
		}
	}
	bad := 0
	for _, f := range found {
		if _, ok := allowed[f.key]; ok {
			allowed[f.key] = true
			continue
		}
		bad++
		fmt.Fprintf(out, "%s: %s\n", f.key, f.text)
	}
	for key, used := range allowed {
		if !used {
			bad++
			fmt.Fprintf(out, "%s: no exception is needed any more: remove it\n", key)
		}
	}
	if bad > 0 {
		return fmt.Errorf("%d findings", bad)
	}
	return nil
}

// A checker looks at one folder.
type checker struct {
	root     string // names of files are relative to it
	found    []finding
	methods  map[string]int // of each type
	exported int
}

func (c *checker) check(where, what string, got, limit int) {
	if got > limit {
		c.found = append(c.found, finding{where + " " + what, fmt.Sprintf("%d, at most %d", got, limit)})
	}
}

func (c *checker) folder(dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return fmt.Errorf("no Go files in %s", dir)
	}
	for _, file := range files {
		if strings.HasSuffix(file, "_test.go") {
			continue
		}
		if err := c.file(file); err != nil {
			return err
		}
	}
	name, err := filepath.Rel(c.root, dir)
	if err != nil {
		return err
	}
	for t, n := range c.methods {
		c.check(filepath.ToSlash(name)+" "+t, "methods", n, methods)
	}
	slices.SortFunc(c.found, func(a, b finding) int { return strings.Compare(a.key, b.key) })
	return nil
}

func (c *checker) file(path string) error {
	src, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	fset := token.NewFileSet()
	f, err := parser.ParseFile(fset, path, src, parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	name, err := filepath.Rel(c.root, path)
	if err != nil {
		return err
	}
	name = filepath.ToSlash(name)
	c.check(name, "lines", bytes.Count(src, []byte("\n")), fileLines)
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			where := name + " " + d.Name.Name
			if d.Recv != nil {
				receiver := typeName(d.Recv.List[0].Type)
				where = name + " " + receiver + "." + d.Name.Name
				c.methods[receiver]++
			} else if d.Name.IsExported() {
				c.exported++
			}
			c.check(where, "lines", fset.Position(d.End()).Line-fset.Position(d.Pos()).Line+1, functionLines)
			c.check(where, "complexity", gocyclo.Complexity(d), complexity)
		case *ast.GenDecl:
			c.exported += exportedNames(d)
		}
	}
	return nil
}

// typeName is the name of a receiver's type, without its star and its type parameters.
func typeName(t ast.Expr) string {
	switch t := t.(type) {
	case *ast.StarExpr:
		return typeName(t.X)
	case *ast.IndexExpr:
		return typeName(t.X)
	case *ast.IndexListExpr:
		return typeName(t.X)
	case *ast.Ident:
		return t.Name
	}
	return fmt.Sprintf("%T", t)
}

func exportedNames(d *ast.GenDecl) (n int) {
	for _, spec := range d.Specs {
		switch s := spec.(type) {
		case *ast.TypeSpec:
			if s.Name.IsExported() {
				n++
			}
		case *ast.ValueSpec:
			for _, name := range s.Names {
				if name.IsExported() {
					n++
				}
			}
		}
	}
	return n
}
