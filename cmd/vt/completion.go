package main

import (
	"flag"
	"fmt"
	"strings"
)

const completionSynopsis = `vt completion bash|zsh|fish prints a script that completes commands and flags:

	source <(vt completion bash)     in ~/.bashrc
	source <(vt completion zsh)      in ~/.zshrc, after compinit
	vt completion fish | source      in ~/.config/fish/config.fish
`

// A commandFlags is a command with its flags.
type commandFlags struct {
	name  string
	flags *flag.FlagSet
}

func allFlags() []commandFlags {
	return []commandFlags{
		{"wait", (&waitFlags{}).set()},
		{"serve", (&serveFlags{}).set()},
		{"plan", (&planFlags{}).set()},
		{"completion", flag.NewFlagSet("", flag.ContinueOnError)},
		{"version", flag.NewFlagSet("", flag.ContinueOnError)},
		{"help", flag.NewFlagSet("", flag.ContinueOnError)},
	}
}

// words lists what may follow a command: its flags, and the words of completion and help.
func (c commandFlags) words() []string {
	var words []string
	c.flags.VisitAll(func(f *flag.Flag) { words = append(words, "-"+f.Name) })
	switch c.name {
	case "completion":
		words = []string{"bash", "zsh", "fish"}
	case "help":
		words = []string{"wait", "serve", "plan"}
	}
	return words
}

func (e *env) completion(args []string) int {
	if len(args) != 1 {
		return e.errorf("completion: want one of bash, zsh, fish")
	}
	switch args[0] {
	case "-h", "-help", "--help":
		fmt.Fprint(e.stdout, completionSynopsis)
	case "bash":
		fmt.Fprint(e.stdout, bashCompletion())
	case "zsh":
		fmt.Fprint(e.stdout, zshCompletion())
	case "fish":
		fmt.Fprint(e.stdout, fishCompletion())
	default:
		return e.errorf("completion: no shell %q: want one of bash, zsh, fish", args[0])
	}
	return exitOK
}

func commandNames() string {
	var names []string
	for _, c := range allFlags() {
		names = append(names, c.name)
	}
	return strings.Join(names, " ")
}

func bashCompletion() string {
	var b strings.Builder
	b.WriteString("_vt() {\n\tlocal cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD-1]} words=\n" +
		"\tif ((COMP_CWORD == 1)); then\n\t\twords='" + commandNames() + "'\n" +
		"\telif [[ $prev == -api ]]; then\n\t\twords='plain heygen'\n\telse\n\t\tcase ${COMP_WORDS[1]} in\n")
	for _, c := range allFlags() {
		if words := c.words(); len(words) > 0 {
			fmt.Fprintf(&b, "\t\t%s) words='%s' ;;\n", c.name, strings.Join(words, " "))
		}
	}
	b.WriteString("\t\tesac\n\tfi\n\tCOMPREPLY=($(compgen -W \"$words\" -- \"$cur\"))\n}\ncomplete -o default -F _vt vt\n")
	return b.String()
}

func zshCompletion() string {
	var b strings.Builder
	b.WriteString("#compdef vt\n_vt() {\n\tif ((CURRENT == 2)); then\n\t\tcompadd " + commandNames() + "\n\t\treturn\n\tfi\n" +
		"\tif [[ $words[CURRENT-1] == -api ]]; then\n\t\tcompadd plain heygen\n\t\treturn\n\tfi\n\tcase $words[2] in\n")
	for _, c := range allFlags() {
		if words := c.words(); len(words) > 0 {
			fmt.Fprintf(&b, "\t%s) compadd -- %s ;;\n", c.name, strings.Join(words, " "))
		}
	}
	b.WriteString("\tesac\n\t_files\n}\ncompdef _vt vt\n")
	return b.String()
}

func fishCompletion() string {
	var b strings.Builder
	b.WriteString("complete -c vt -n __fish_use_subcommand -f -a '" + commandNames() + "'\n")
	for _, c := range allFlags() {
		c.flags.VisitAll(func(f *flag.Flag) {
			_, usage := flag.UnquoteUsage(f)
			first, _, _ := strings.Cut(usage, ";")
			fmt.Fprintf(&b, "complete -c vt -n '__fish_seen_subcommand_from %s' -o %s -d '%s'\n", c.name, f.Name, strings.ReplaceAll(first, "'", `\'`))
		})
		if words := c.words(); len(words) > 0 && !strings.HasPrefix(words[0], "-") {
			fmt.Fprintf(&b, "complete -c vt -n '__fish_seen_subcommand_from %s' -f -a '%s'\n", c.name, strings.Join(words, " "))
		}
	}
	return b.String()
}
