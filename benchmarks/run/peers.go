package main

import (
	"context"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/scanner"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// A peer is one package, and what comes with it.
type peer struct {
	path, version string
	modules       int // that go get adds, its own included; 0: not known
	names         int // exported
	lines, linked int // with code: of the package, of all that it links
}

const self = "github.com/vtclient/vtclient"

var packages = []string{
	self,
	"github.com/sony/gobreaker/v2",
	"github.com/failsafe-go/failsafe-go/circuitbreaker",
	"github.com/eapache/go-resiliency/breaker",
	"github.com/jellydator/ttlcache/v3",
	"github.com/hashicorp/golang-lru/v2/expirable",
	"github.com/maypok86/otter/v2",
	"github.com/patrickmn/go-cache",
	"github.com/cenkalti/backoff/v5",
	"github.com/avast/retry-go/v5",
	"github.com/sethvargo/go-retry",
	"github.com/failsafe-go/failsafe-go/retrypolicy",
	"github.com/hashicorp/go-retryablehttp",
	"github.com/failsafe-go/failsafe-go/failsafehttp",
	"resty.dev/v3",
	"golang.org/x/sync/singleflight",
	"github.com/aws/aws-sdk-go-v2/service/transcribe",
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime",
	"github.com/googleapis/gax-go/v2",
	"cloud.google.com/go/longrunning",
}

// A listed package is what go list prints of one.
type listed struct {
	Dir, ImportPath string
	GoFiles         []string
	Standard        bool
	Module          *struct{ Path, Version string }
}

func countPeers(ctx context.Context) (peers []peer, err error) {
	for _, path := range packages {
		list, err := goList(ctx, path)
		if err != nil {
			return nil, err
		}
		p := peer{path: path}
		for _, l := range list {
			if l.Standard {
				continue
			}
			lines, names, err := count(l)
			if err != nil {
				return nil, err
			}
			p.linked += lines
			if l.ImportPath == path {
				p.names, p.lines = names, lines
				if p.version = l.Module.Version; path == self {
					p.version = "this one"
				}
			}
		}
		p.modules = added(ctx, path, p.version)
		peers = append(peers, p)
	}
	return peers, nil
}

// goList returns a package and all that it imports.
func goList(ctx context.Context, path string) (list []listed, err error) {
	cmd := exec.CommandContext(ctx, "go", "list", "-deps", "-json=Dir,ImportPath,GoFiles,Standard,Module", path)
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%v: %w", cmd, err)
	}
	for d := json.NewDecoder(strings.NewReader(string(out))); ; {
		var l listed
		if err := d.Decode(&l); err == io.EOF {
			return list, nil
		} else if err != nil {
			return nil, err
		}
		list = append(list, l)
	}
}

// count returns the lines of a package that hold code, and its exported names.
func count(l listed) (lines, names int, err error) {
	var decls []ast.Decl
	for _, file := range l.GoFiles {
		path := filepath.Join(l.Dir, file)
		src, err := os.ReadFile(path)
		if err != nil {
			return 0, 0, err
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, path, src, parser.SkipObjectResolution)
		if err != nil {
			return 0, 0, err
		}
		decls = append(decls, f.Decls...)

		set := token.NewFileSet()
		tf := set.AddFile(path, -1, len(src))
		var s scanner.Scanner
		s.Init(tf, src, nil, 0) // leaves comments out
		with := make(map[int]bool)
		for {
			pos, tok, text := s.Scan()
			if tok == token.EOF {
				break
			}
			if tok == token.SEMICOLON && text == "\n" { // put in by the scanner
				continue
			}
			first := tf.Line(pos)
			for i := range strings.Count(text, "\n") + 1 { // a raw string spans lines
				with[first+i] = true
			}
		}
		lines += len(with)
	}
	public := publicTypes(decls)
	for _, d := range decls {
		names += exported(d, public)
	}
	return lines, names, nil
}

// publicTypes returns the types whose methods a caller sees: the exported ones, and
// those that an exported struct embeds.
func publicTypes(decls []ast.Decl) map[string]bool {
	public := make(map[string]bool)
	for _, d := range decls {
		g, ok := d.(*ast.GenDecl)
		if !ok {
			continue
		}
		for _, spec := range g.Specs {
			t, ok := spec.(*ast.TypeSpec)
			if !ok || !t.Name.IsExported() {
				continue
			}
			public[t.Name.Name] = true
			if s, ok := t.Type.(*ast.StructType); ok {
				for _, f := range s.Fields.List {
					if len(f.Names) == 0 {
						public[receiver(f.Type)] = true
					}
				}
			}
		}
	}
	return public
}

// exported counts the names that a declaration exports.
func exported(d ast.Decl, public map[string]bool) (n int) {
	one := func(id *ast.Ident) {
		if id.IsExported() {
			n++
		}
	}
	switch d := d.(type) {
	case *ast.FuncDecl:
		if d.Recv == nil || public[receiver(d.Recv.List[0].Type)] {
			one(d.Name)
		}
	case *ast.GenDecl:
		for _, spec := range d.Specs {
			switch s := spec.(type) {
			case *ast.TypeSpec:
				one(s.Name)
				if i, ok := s.Type.(*ast.InterfaceType); ok && s.Name.IsExported() {
					for _, m := range i.Methods.List {
						for _, id := range m.Names {
							one(id)
						}
					}
				}
			case *ast.ValueSpec:
				for _, id := range s.Names {
					one(id)
				}
			}
		}
	}
	return n
}

// receiver returns the name of the type of a receiver or of an embedded field.
func receiver(t ast.Expr) string {
	switch t := t.(type) {
	case *ast.StarExpr:
		return receiver(t.X)
	case *ast.IndexExpr:
		return receiver(t.X)
	case *ast.IndexListExpr:
		return receiver(t.X)
	case *ast.Ident:
		return t.Name
	}
	return ""
}

// added returns how many modules go get brings into an empty one, or 0 if it cannot be
// found out, such as without a network.
func added(ctx context.Context, path, version string) int {
	if path == self {
		return 1 // its go.mod has no requirements, which CI sees to
	}
	dir, err := os.MkdirTemp("", "empty")
	if err != nil {
		return 0
	}
	defer os.RemoveAll(dir)
	for _, args := range [][]string{{"mod", "init", "example.com/empty"}, {"get", path + "@" + version}} {
		cmd := exec.CommandContext(ctx, "go", args...)
		cmd.Dir = dir
		cmd.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off")
		if cmd.Run() != nil {
			return 0
		}
	}
	cmd := exec.CommandContext(ctx, "go", "mod", "edit", "-json")
	cmd.Dir = dir
	out, err := cmd.Output()
	var mod struct{ Require []struct{ Path string } }
	if err != nil || json.Unmarshal(out, &mod) != nil {
		return 0
	}
	return len(mod.Require)
}
