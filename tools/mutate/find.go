package main

import (
	"fmt"
	"go/ast"
	"go/constant"
	"go/token"
	"go/types"
	"strings"
)

// A mutant is one change to the source. Its id is what the instrumented program is set to
// switch it on.
type mutant struct {
	id     int
	file   string // the base name
	line   int
	col    int
	what   string // "a < b → a <= b", "removed: f()"
	source string // the line, trimmed
	places []token.Position
	tests  []int // those that reach it, the quick ones first

	dropped bool // does not compile
}

func (m *mutant) key() string {
	return fmt.Sprintf("%s:%d:%d\t%s", m.file, m.line, m.col, m.what)
}

// A point is a stretch of the source that instrumenting replaces. Points nest
// and never overlap otherwise.
type point struct {
	start, end int
	render     func(inner string) string // inner: the stretch with the points in it rendered
}

// A finder collects the mutants of one file.
type finder struct {
	fset  *token.FileSet
	info  *types.Info
	pkg   *types.Package
	name  string // the file's base name
	src   string
	names map[string]string // of the packages that the file imports, by path
	next  *int              // the id of the next mutant

	stack   []ast.Node // from the file down to the node that is looked at
	results []*ast.FieldList
	mutants []*mutant
	points  []point
}

// find walks the file.
func (f *finder) find(file *ast.File) {
	f.names = make(map[string]string)
	for _, spec := range file.Imports {
		obj, _ := f.info.Implicits[spec].(*types.PkgName)
		if spec.Name != nil {
			obj, _ = f.info.Defs[spec.Name].(*types.PkgName)
		}
		if obj != nil {
			f.names[obj.Imported().Path()] = obj.Name()
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		if n == nil {
			top := f.stack[len(f.stack)-1]
			f.stack = f.stack[:len(f.stack)-1]
			switch top.(type) {
			case *ast.FuncDecl, *ast.FuncLit:
				f.results = f.results[:len(f.results)-1]
			}
			return true
		}
		if !f.look(n) {
			return false
		}
		f.stack = append(f.stack, n)
		switch n := n.(type) {
		case *ast.FuncDecl:
			f.results = append(f.results, n.Type.Results)
		case *ast.FuncLit:
			f.results = append(f.results, n.Type.Results)
		}
		return true
	})
}

func (f *finder) parent() ast.Node { return f.stack[len(f.stack)-1] }

func (f *finder) offset(p token.Pos) int { return f.fset.PositionFor(p, false).Offset }

func (f *finder) text(n ast.Node) string { return f.src[f.offset(n.Pos()):f.offset(n.End())] }

// add makes a mutant at n.
func (f *finder) add(n ast.Node, format string, args ...any) *mutant {
	at := f.fset.PositionFor(n.Pos(), false)
	m := &mutant{id: *f.next, file: f.name, line: at.Line, col: at.Column, what: short(fmt.Sprintf(format, args...))}
	*f.next++
	start := at.Offset - at.Column + 1
	end := start + strings.IndexByte(f.src[start:]+"\n", '\n')
	m.source = strings.TrimSpace(f.src[start:end])
	// Where coverage looks: in the node, or in what is around it. The head of a
	// case belongs to no block.
	m.places = append(m.places, at)
	for i := len(f.stack) - 1; i >= 0; i-- {
		switch f.stack[i].(type) {
		case *ast.File, *ast.GenDecl, *ast.FuncDecl:
		default:
			m.places = append(m.places, f.fset.PositionFor(f.stack[i].Pos(), false))
		}
	}
	f.mutants = append(f.mutants, m)
	return m
}

// short makes one line of at most 120 characters.
func short(s string) string {
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > 120 {
		s = string(r[:119]) + "…"
	}
	return s
}

func (f *finder) replace(start, end token.Pos, render func(inner string) string) {
	f.points = append(f.points, point{f.offset(start), f.offset(end), render})
}

// look finds the mutants of one node, and reports whether to look at those in it.
func (f *finder) look(n ast.Node) bool {
	switch n := n.(type) {
	case *ast.GenDecl:
		return n.Tok == token.VAR
	case *ast.LabeledStmt:
		return true
	case ast.Stmt:
		f.statement(n)
		return true
	case ast.Expr:
		return f.expression(n)
	}
	return true
}

// listed reports whether the statement being looked at stands in a list of them,
// where another one may stand beside it.
func (f *finder) listed(s ast.Stmt) bool {
	switch p := f.parent().(type) {
	case *ast.BlockStmt, *ast.CaseClause:
		return true
	case *ast.CommClause:
		return p.Comm != s
	}
	return false
}

// initial reports whether the statement stands before the condition of an if or
// a switch.
func (f *finder) initial(s ast.Stmt) bool {
	switch p := f.parent().(type) {
	case *ast.IfStmt:
		return p.Init == s
	case *ast.SwitchStmt:
		return p.Init == s
	case *ast.TypeSwitchStmt:
		return p.Init == s
	}
	return false
}

func (f *finder) statement(s ast.Stmt) {
	switch s := s.(type) {
	case *ast.ExprStmt:
		if call, ok := s.X.(*ast.CallExpr); ok && f.text(call.Fun) == "panic" {
			return // ends its function for the compiler too
		}
		f.removal(s, "")
	case *ast.SendStmt, *ast.DeferStmt, *ast.GoStmt:
		f.removal(s, "")
	case *ast.AssignStmt:
		switch other, swapped := opposite[s.Tok]; {
		case s.Tok == token.DEFINE:
		case s.Tok != token.ASSIGN && swapped && f.numeric(s.Lhs[0]):
			f.removal(s, f.text(s.Lhs[0])+" "+other.String()+" "+f.text(s.Rhs[0]))
		default:
			for _, x := range s.Lhs {
				if id, ok := x.(*ast.Ident); !ok || id.Name != "_" {
					f.removal(s, "")
					return
				}
			}
		}
	case *ast.IncDecStmt:
		f.removal(s, f.text(s.X)+opposite[s.Tok].String())
	case *ast.BranchStmt:
		if s.Tok == token.BREAK || s.Tok == token.CONTINUE {
			f.removal(s, "")
		}
	case *ast.ReturnStmt:
		f.returns(s)
	}
}

// removal makes the mutant in which a statement is missing, and one in which
// swapped stands in its place if that is not empty.
func (f *finder) removal(s ast.Stmt, swapped string) {
	initial := f.initial(s)
	if !initial && !f.listed(s) || initial && strings.Contains(f.text(s), "recover()") {
		return // recover has to be called by the deferred function itself
	}
	var other *mutant
	if swapped != "" {
		other = f.add(s, "%s → %s", f.text(s), swapped)
	}
	gone := f.add(s, "removed: %s", f.text(s))
	f.replace(s.Pos(), s.End(), func(inner string) string {
		out := inner
		if !gone.dropped {
			out = fmt.Sprintf("if mutate_id != %d { %s }", gone.id, out)
		}
		if other != nil && !other.dropped {
			out = fmt.Sprintf("if mutate_id == %d { %s } else { %s }", other.id, swapped, out)
		}
		if initial && out != inner {
			out = "func() { " + out + " }()"
		}
		return out
	})
}

// returns makes a mutant for each result that is replaced by its zero value.
func (f *finder) returns(s *ast.ReturnStmt) {
	fields := f.results[len(f.results)-1]
	if fields == nil || len(s.Results) == 0 {
		return
	}
	var kinds []string
	for _, field := range fields.List {
		for range max(1, len(field.Names)) {
			kinds = append(kinds, f.text(field.Type))
		}
	}
	if len(kinds) != len(s.Results) {
		return // the results of a call, handed on
	}
	type zeroed struct {
		m    *mutant
		text string
	}
	var all []zeroed
	for i, x := range s.Results {
		tv := f.info.Types[x]
		if tv.IsNil() || tv.Value != nil && tv.Value.Kind() != constant.String {
			continue // zero already, or other mutants change it
		}
		if tv.Value != nil && constant.StringVal(tv.Value) == "" || f.boolean(x) {
			continue
		}
		if lit, ok := x.(*ast.CompositeLit); ok && len(lit.Elts) == 0 {
			continue
		}
		texts := make([]string, len(kinds))
		for j, y := range s.Results {
			texts[j] = f.text(y)
		}
		texts[i] = "*new(" + kinds[i] + ")"
		m := f.add(x, "return %s → its zero value", f.text(x))
		all = append(all, zeroed{m, strings.Join(texts, ", ")})
	}
	if len(all) == 0 {
		return
	}
	f.replace(s.Pos(), s.End(), func(inner string) string {
		var b strings.Builder
		for _, z := range all {
			if !z.m.dropped {
				fmt.Fprintf(&b, "if mutate_id == %d { return %s }; ", z.m.id, z.text)
			}
		}
		return b.String() + inner
	})
}

// opposite is what an operator is replaced by.
var opposite = map[token.Token]token.Token{
	token.LSS: token.LEQ, token.LEQ: token.LSS, token.GTR: token.GEQ, token.GEQ: token.GTR,
	token.LAND: token.LOR, token.LOR: token.LAND,
	token.ADD: token.SUB, token.SUB: token.ADD, token.MUL: token.QUO, token.QUO: token.MUL, token.REM: token.MUL,
	token.AND: token.OR, token.OR: token.AND, token.SHL: token.SHR, token.SHR: token.SHL,
	token.ADD_ASSIGN: token.SUB_ASSIGN, token.SUB_ASSIGN: token.ADD_ASSIGN,
	token.MUL_ASSIGN: token.QUO_ASSIGN, token.QUO_ASSIGN: token.MUL_ASSIGN,
	token.INC: token.DEC, token.DEC: token.INC,
}

// helper is the function that calculates with an operator or its opposite.
var helper = map[token.Token]string{
	token.ADD: "add", token.SUB: "sub", token.MUL: "mul", token.QUO: "quo", token.REM: "rem",
	token.AND: "and", token.OR: "or", token.SHL: "shl", token.SHR: "shr",
}

func (f *finder) expression(x ast.Expr) bool {
	tv, ok := f.info.Types[x]
	if !ok {
		return true // the name of a field or of something declared
	}
	if tv.IsType() {
		return false
	}
	if tv.Value != nil {
		f.constant(x, tv)
		return false
	}
	f.field(x, tv) // the outermost of the points here
	switch x := x.(type) {
	case *ast.BinaryExpr:
		f.binary(x)
	case *ast.UnaryExpr:
		if x.Op == token.SUB && f.numeric(x) {
			m := f.add(x, "%s → %s", f.text(x), f.text(x.X))
			f.call(m, x, "neg", x.OpPos, x.X.Pos(), "")
		}
	case *ast.CallExpr:
		f.extremum(x)
	}
	if _, ok := x.(*ast.BinaryExpr); !ok && f.condition(x) {
		f.choice(x, nil, true)
	}
	return true
}

// call makes an operator, which stands from at to end, the call of a helper.
func (f *finder) call(m *mutant, x ast.Expr, name string, at, end token.Pos, comma string) {
	f.replace(x.Pos(), x.End(), func(inner string) string {
		if m.dropped {
			return inner
		}
		return fmt.Sprintf("mutate_%s(%d, %s)", name, m.id, inner)
	})
	f.replace(at, end, func(inner string) string {
		if m.dropped {
			return inner
		}
		return comma
	})
}

// condition reports whether an expression that is no comparison decides over
// something: an if, an operand of && or ||, a result.
func (f *finder) condition(x ast.Expr) bool {
	if !f.boolean(x) {
		return false
	}
	switch u := x.(type) {
	case *ast.ParenExpr:
		return false
	case *ast.UnaryExpr:
		if u.Op == token.NOT {
			return false // its operand is one
		}
	}
	at := len(f.stack) - 1
	for at > 0 {
		if _, ok := f.stack[at].(*ast.ParenExpr); !ok {
			break
		}
		at--
	}
	switch p := f.stack[at].(type) {
	case *ast.IfStmt, *ast.ForStmt, *ast.ReturnStmt:
		return true
	case *ast.UnaryExpr:
		return p.Op == token.NOT
	case *ast.BinaryExpr:
		return p.Op == token.LAND || p.Op == token.LOR
	case *ast.CaseClause:
		sw, ok := f.stack[at-2].(*ast.SwitchStmt)
		return ok && sw.Tag == nil
	}
	return false
}

// endless reports whether x alone is the condition of a loop, which must not
// become one without an end.
func (f *finder) endless(x ast.Expr) bool {
	p, ok := f.parent().(*ast.ForStmt)
	return ok && p.Cond == x
}

// choice makes the mutants of a boolean expression: others, and those in which
// it is always true and always false.
func (f *finder) choice(x ast.Expr, others []string, fixed bool) {
	type option struct {
		m    *mutant
		text string
	}
	var all []option
	for _, o := range others {
		all = append(all, option{f.add(x, "%s → %s", f.text(x), o), o})
	}
	if fixed {
		if !f.endless(x) {
			all = append(all, option{f.add(x, "%s → true", f.text(x)), "true"})
		}
		all = append(all, option{f.add(x, "%s → false", f.text(x)), "false"})
	}
	f.replace(x.Pos(), x.End(), func(inner string) string {
		var on, off []string
		for _, o := range all {
			if o.m.dropped {
				continue
			}
			is := fmt.Sprintf("mutate_id == %d", o.m.id)
			switch o.text {
			case "true":
				on = append(on, is)
			case "false":
			default:
				on = append(on, is+" && ("+o.text+")")
			}
			off = append(off, fmt.Sprintf("mutate_id != %d", o.m.id))
		}
		if len(off) == 0 {
			return inner
		}
		return "(" + strings.Join(append(on, strings.Join(append(off, "("+inner+")"), " && ")), " || ") + ")"
	})
}

func (f *finder) binary(x *ast.BinaryExpr) {
	with := func(op token.Token) string { return f.text(x.X) + " " + op.String() + " " + f.text(x.Y) }
	switch x.Op {
	case token.LSS, token.LEQ, token.GTR, token.GEQ:
		f.choice(x, []string{with(opposite[x.Op])}, true)
	case token.EQL, token.NEQ:
		f.choice(x, nil, true)
	case token.LAND, token.LOR:
		f.choice(x, []string{"(" + f.text(x.X) + ") " + opposite[x.Op].String() + " (" + f.text(x.Y) + ")"}, false)
	default:
		name, ok := helper[x.Op]
		if !ok || !f.numeric(x) {
			return
		}
		if x.Op == token.SHL || x.Op == token.SHR {
			if f.info.Types[x.X].Value != nil {
				return // its type comes from elsewhere
			}
		} else if kind, ok := f.kind(f.info.Types[x].Type); ok {
			name += "[" + kind + "]"
		} else {
			return
		}
		m := f.add(x, "%s → %s", f.text(x), with(opposite[x.Op]))
		f.call(m, x, name, x.OpPos, x.OpPos+token.Pos(len(x.Op.String())), ",")
	}
}

// extremum makes the mutant of a max or min.
func (f *finder) extremum(x *ast.CallExpr) {
	id, ok := x.Fun.(*ast.Ident)
	if !ok || x.Ellipsis.IsValid() || len(x.Args) < 2 {
		return
	}
	if _, ok := f.info.Uses[id].(*types.Builtin); !ok || id.Name != "max" && id.Name != "min" {
		return
	}
	kind, ok := f.kind(f.info.Types[x].Type)
	if !ok {
		return
	}
	m := f.add(x, "%s → %s", f.text(x), map[string]string{"max": "min", "min": "max"}[id.Name]+f.text(x)[3:])
	f.replace(x.Pos(), x.Lparen+1, func(inner string) string {
		if m.dropped {
			return inner
		}
		return fmt.Sprintf("mutate_%s[%s](%d, ", id.Name, kind, m.id)
	})
}

// field makes the mutant in which a field of a literal is left at its zero value.
func (f *finder) field(x ast.Expr, tv types.TypeAndValue) {
	kv, ok := f.parent().(*ast.KeyValueExpr)
	if !ok || kv.Value != x || tv.IsNil() || f.boolean(x) {
		return
	}
	lit, ok := f.stack[len(f.stack)-2].(*ast.CompositeLit)
	if !ok {
		return
	}
	if _, ok := f.info.Types[lit].Type.Underlying().(*types.Struct); !ok {
		return
	}
	key, ok := kv.Key.(*ast.Ident)
	if !ok {
		return
	}
	if obj := f.info.Uses[key]; obj == nil || !types.Identical(obj.Type(), tv.Type) {
		return // its zero value would be that of another type
	}
	m := f.add(kv, "%s → its zero value", f.text(kv))
	f.replace(x.Pos(), x.End(), func(inner string) string {
		if m.dropped {
			return inner
		}
		return fmt.Sprintf("mutate_zero(%d, %s)", m.id, inner)
	})
}

// constant makes the mutant of a constant: a flipped bool, 1 in the place of 0,
// the next integer below 10, and twice as much from there on and for durations
// and fractions.
func (f *finder) constant(x ast.Expr, tv types.TypeAndValue) {
	if call, ok := x.(*ast.CallExpr); ok && len(call.Args) == 1 && f.info.Types[call.Fun].IsType() {
		if arg := f.info.Types[call.Args[0]]; duration(arg.Type) {
			f.stack = append(f.stack, x)
			f.constant(call.Args[0], arg) // int64(time.Second): one more would be a nanosecond
			f.stack = f.stack[:len(f.stack)-1]
			return
		}
	}
	if p, ok := x.(*ast.ParenExpr); ok {
		f.stack = append(f.stack, x)
		f.constant(p.X, tv)
		f.stack = f.stack[:len(f.stack)-1]
		return
	}
	switch p := f.parent().(type) {
	case *ast.BinaryExpr:
		switch p.Op {
		case token.SHL, token.SHR:
			if p.X == x {
				return // its type comes from elsewhere
			}
		case token.LSS, token.LEQ, token.GTR, token.GEQ, token.EQL, token.NEQ:
			if !duration(tv.Type) || constant.Sign(tv.Value) == 0 {
				return // the mutants of the comparison say as much
			}
		}
	case *ast.KeyValueExpr:
		if p.Key == x {
			return
		}
	}
	kind, ok := f.kind(tv.Type)
	if !ok {
		return
	}
	var name, text string
	switch tv.Value.Kind() {
	case constant.Bool:
		if s := f.text(x); s == "true" || s == "false" {
			name, text = "not", map[string]string{"true": "false", "false": "true"}[s]
		} else {
			return
		}
	case constant.Int, constant.Float:
		if !f.numeric(x) {
			return
		}
		abs := constant.BinaryOp(tv.Value, token.MUL, constant.MakeInt64(int64(constant.Sign(tv.Value))))
		switch {
		case constant.Sign(tv.Value) == 0 && duration(tv.Type):
			name, text = "second", "time.Second"
		case constant.Sign(tv.Value) == 0:
			name, text = "inc", "1"
		case duration(tv.Type), isFloat(tv.Type), constant.Compare(abs, token.GEQ, constant.MakeInt64(10)):
			name, text = "twice", "2*"+f.text(x)
		default:
			name, text = "inc", f.text(x)+"+1"
		}
	default:
		return
	}
	m := f.add(x, "%s → %s", f.text(x), text)
	f.replace(x.Pos(), x.End(), func(inner string) string {
		if m.dropped {
			return inner
		}
		return fmt.Sprintf("mutate_%s[%s](%d, %s)", name, kind, m.id, inner)
	})
}

func duration(t types.Type) bool {
	n, ok := types.Unalias(t).(*types.Named)
	return ok && n.Obj().Name() == "Duration" && n.Obj().Pkg() != nil && n.Obj().Pkg().Path() == "time"
}

func isFloat(t types.Type) bool {
	b, ok := t.Underlying().(*types.Basic)
	return ok && b.Info()&types.IsFloat != 0
}

func (f *finder) basic(x ast.Expr) types.BasicInfo {
	t := f.info.Types[x].Type
	if t == nil {
		return 0
	}
	b, ok := t.Underlying().(*types.Basic)
	if !ok {
		return 0
	}
	return b.Info()
}

func (f *finder) boolean(x ast.Expr) bool { return f.basic(x)&types.IsBoolean != 0 }
func (f *finder) numeric(x ast.Expr) bool {
	return f.basic(x)&(types.IsInteger|types.IsFloat) != 0
}

// kind writes a type as the file would, and reports whether it can.
func (f *finder) kind(t types.Type) (string, bool) {
	t = types.Default(t)
	ok := true
	s := types.TypeString(t, func(p *types.Package) string {
		if p == f.pkg {
			return ""
		}
		name := f.names[p.Path()]
		if name == "" || name == "." {
			ok = false
		}
		return name
	})
	return s, ok
}
