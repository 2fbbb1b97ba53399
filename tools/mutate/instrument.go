package main

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
)

// helpers is the file that is added to the package: the switch, and functions that calculate
// either as the source or as a mutant does.
//
// Memory is looked at after each garbage collection: a timer or a goroutine of
// our own would keep the runtime from noticing deadlocks.
const helpers = `package %s

import (
	mutate_cmp "cmp"
	mutate_os "os"
	mutate_runtime "runtime"
	mutate_metrics "runtime/metrics"
	mutate_strconv "strconv"
)

var mutate_id = mutate_chosen()

func mutate_chosen() int {
	id, err := mutate_strconv.Atoi(mutate_os.Getenv("MUTANT"))
	if err != nil {
		panic("MUTANT is to be a number: " + err.Error())
	}
	if limit, _ := mutate_strconv.Atoi(mutate_os.Getenv("MUTANT_MEMORY")); id > 0 && limit > 0 {
		mutate_watch(uint64(limit))
	}
	return id
}

func mutate_watch(limit uint64) {
	var again func(*[16]byte)
	again = func(p *[16]byte) {
		s := []mutate_metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
		if mutate_metrics.Read(s); s[0].Value.Uint64() > limit {
			println("mutate: too much memory")
			mutate_os.Exit(3)
		}
		mutate_runtime.SetFinalizer(new([16]byte), again)
	}
	again(nil)
}

type mutate_integer interface {
	~int | ~int8 | ~int16 | ~int32 | ~int64 | ~uint | ~uint8 | ~uint16 | ~uint32 | ~uint64 | ~uintptr
}

type mutate_number interface {
	mutate_integer | ~float32 | ~float64
}

func mutate_add[T mutate_number](id int, a, b T) T { if mutate_id == id { return a - b }; return a + b }
func mutate_sub[T mutate_number](id int, a, b T) T { if mutate_id == id { return a + b }; return a - b }
func mutate_mul[T mutate_number](id int, a, b T) T { if mutate_id == id { return a / b }; return a * b }
func mutate_quo[T mutate_number](id int, a, b T) T { if mutate_id == id { return a * b }; return a / b }
func mutate_rem[T mutate_integer](id int, a, b T) T { if mutate_id == id { return a * b }; return a %% b }
func mutate_and[T mutate_integer](id int, a, b T) T { if mutate_id == id { return a | b }; return a & b }
func mutate_or[T mutate_integer](id int, a, b T) T { if mutate_id == id { return a & b }; return a | b }
func mutate_shl[T, S mutate_integer](id int, a T, b S) T { if mutate_id == id { return a >> b }; return a << b }
func mutate_shr[T, S mutate_integer](id int, a T, b S) T { if mutate_id == id { return a << b }; return a >> b }
func mutate_neg[T mutate_number](id int, a T) T { if mutate_id == id { return a }; return -a }
func mutate_inc[T mutate_number](id int, a T) T { if mutate_id == id { return a + 1 }; return a }
func mutate_twice[T mutate_number](id int, a T) T { if mutate_id == id { return 2 * a }; return a }
func mutate_second[T ~int64](id int, a T) T { if mutate_id == id { return 1e9 }; return a }
func mutate_not[T ~bool](id int, a T) T { return a != T(mutate_id == id) }
func mutate_zero[T any](id int, a T) (zero T) { if mutate_id == id { return zero }; return a }

func mutate_max[T mutate_cmp.Ordered](id int, a T, rest ...T) T {
	for _, b := range rest {
		if mutate_id == id { a = min(a, b) } else { a = max(a, b) }
	}
	return a
}

func mutate_min[T mutate_cmp.Ordered](id int, a T, rest ...T) T {
	for _, b := range rest {
		if mutate_id == id { a = max(a, b) } else { a = min(a, b) }
	}
	return a
}
`

// A subject is the package whose tests are put to the test.
type subject struct {
	dir     string
	path    string // for import
	name    string
	hash    string // of the files that are mutated
	files   []string
	mutants []*mutant

	instrumented map[string]string // by base name
}

// load reads the package in dir and instruments the files named, or all.
func load(dir string, only []string) (*subject, error) {
	var listed struct {
		ImportPath, Name string
		GoFiles          []string
	}
	out, err := goTool(dir, "list", "-json=ImportPath,Name,GoFiles", ".")
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(out, &listed); err != nil {
		return nil, fmt.Errorf("go list: %w", err)
	}
	s := &subject{dir: dir, path: listed.ImportPath, name: listed.Name, files: only}
	if len(only) == 0 {
		s.files = listed.GoFiles
	}
	for i, name := range s.files {
		s.files[i] = filepath.Base(name)
		if !slices.Contains(listed.GoFiles, s.files[i]) {
			return nil, fmt.Errorf("%s is no file of package %s (tests are not mutated)", name, listed.Name)
		}
	}

	// The export data of what is imported, by the helpers too, comes from the
	// build cache.
	out, err = goTool(dir, "list", "-export", "-deps", "-f", "{{if .Export}}{{.ImportPath}}\t{{.Export}}{{end}}",
		".", "cmp", "os", "runtime", "runtime/metrics", "strconv")
	if err != nil {
		return nil, err
	}
	exports := make(map[string]string)
	for line := range strings.Lines(string(out)) {
		if path, file, ok := strings.Cut(strings.TrimSpace(line), "\t"); ok {
			exports[path] = file
		}
	}
	lookup := func(path string) (io.ReadCloser, error) { return os.Open(exports[path]) }

	sources := make(map[string]string)
	hash := sha256.New()
	for _, name := range listed.GoFiles {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		sources[name] = string(b)
		fmt.Fprintf(hash, "%s %d\n%s", name, len(b), b)
	}
	s.hash = fmt.Sprintf("%x", hash.Sum(nil)[:8])

	fset := token.NewFileSet()
	imp := importer.ForCompiler(fset, "gc", lookup)
	parsed, pkg, info, errs := check(fset, imp, s.path, listed.GoFiles, sources)
	if len(errs) > 0 {
		return nil, errs[0]
	}
	finders := make(map[string]*finder)
	next := 1
	for _, name := range s.files {
		f := &finder{fset: fset, info: info, pkg: pkg, name: name, src: sources[name], next: &next}
		f.find(parsed[name])
		finders[name] = f
		s.mutants = append(s.mutants, f.mutants...)
	}

	// What the type checker refuses is no mutant. It stops at the first ten
	// errors of nothing, so one or two rounds are enough.
	s.instrumented = make(map[string]string)
	for range 20 {
		texts := make(map[string]string)
		for name, src := range sources {
			texts[name] = src
			if f := finders[name]; f != nil {
				texts[name] = instrument(src, f.points)
				s.instrumented[name] = texts[name]
			}
		}
		extra := "zz_mutate_helpers.go"
		texts[extra] = fmt.Sprintf(helpers, s.name)
		s.instrumented[extra] = texts[extra]
		fset := token.NewFileSet()
		_, _, _, errs := check(fset, imp, s.path, append(slices.Clone(listed.GoFiles), extra), texts)
		if len(errs) == 0 {
			return s, nil
		}
		for _, err := range errs {
			if !s.drop(texts, err) {
				return nil, fmt.Errorf("the instrumented package does not compile, and it is not clear why: %w", err)
			}
		}
	}
	return nil, fmt.Errorf("the instrumented package does not compile")
}

// check parses and type-checks a package.
func check(fset *token.FileSet, imp types.Importer, path string, names []string, sources map[string]string) (map[string]*ast.File, *types.Package, *types.Info, []error) {
	parsed := make(map[string]*ast.File)
	var files []*ast.File
	for _, name := range names {
		file, err := parser.ParseFile(fset, name, sources[name], parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return nil, nil, nil, []error{err}
		}
		parsed[name] = file
		files = append(files, file)
	}
	var errs []error
	info := &types.Info{
		Types: make(map[ast.Expr]types.TypeAndValue), Uses: make(map[*ast.Ident]types.Object),
		Defs: make(map[*ast.Ident]types.Object), Implicits: make(map[ast.Node]types.Object),
	}
	conf := types.Config{Importer: imp, Error: func(err error) { errs = append(errs, err) }}
	pkg, _ := conf.Check(path, fset, files, info)
	return parsed, pkg, info, errs
}

var ids = regexp.MustCompile(`mutate_(?:id [!=]= |[a-z]+(?:\[[^\]]*\])?\()(\d+)`)

// drop takes out the mutants on the line of an error.
func (s *subject) drop(texts map[string]string, err error) bool {
	e, ok := err.(types.Error)
	if !ok {
		return false
	}
	at := e.Fset.Position(e.Pos)
	lines := strings.Split(texts[at.Filename], "\n")
	any := false
	for _, found := range ids.FindAllStringSubmatch(lines[at.Line-1], -1) {
		id, _ := strconv.Atoi(found[1])
		if m := s.mutants[id-1]; !m.dropped {
			m.dropped = true
			fmt.Fprintf(os.Stderr, "does not compile: %s: %v\n", m.key(), e.Msg)
		}
		any = true // or by an earlier error of this round
	}
	return any
}

// instrument renders a source with all its points.
func instrument(src string, points []point) string {
	points = slices.Clone(points)
	sort.SliceStable(points, func(i, j int) bool {
		a, b := points[i], points[j]
		if a.start != b.start {
			return a.start < b.start
		}
		return a.end > b.end // the outer first; of equals, the one found first
	})
	text, rest := render(src, 0, len(src), points)
	if len(rest) > 0 {
		panic("points overlap")
	}
	return text
}

func render(src string, from, to int, points []point) (string, []point) {
	var b strings.Builder
	for len(points) > 0 && points[0].start <= to && points[0].end <= to {
		p := points[0]
		b.WriteString(src[from:p.start])
		var inner string
		inner, points = render(src, p.start, p.end, points[1:])
		b.WriteString(p.render(inner))
		from = p.end
	}
	b.WriteString(src[from:to])
	return b.String(), points
}

func goTool(dir string, args ...string) ([]byte, error) {
	cmd := exec.Command("go", args...)
	cmd.Dir = dir
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go %s: %w\n%s", args[0], err, stderr.String())
	}
	return out, nil
}
