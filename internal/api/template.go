package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"text/template"
	"text/template/parse"
	"time"
)

// Anybody on the machine may send a template to the read-only address, so what one can cost is bounded: time by a
// check inside every block, memory by the lengths below.
const (
	maxTemplate  = 16 << 10 // bytes of a template
	maxOutput    = 64 << 20 // bytes it writes
	maxText      = 1 << 20  // bytes of the texts given to one function call
	maxArguments = 16       // of one function call
	templateTime = 5 * time.Second
)

var (
	errTemplateSize = errors.New("template is longer than 16 KiB")
	errTemplateTime = errors.New("template takes too long")
	errOutputSize   = errors.New("template writes too much")
	errTooMuch      = errors.New("too many or too long arguments")
	// wideFormat finds what makes printf pad to great widths or use an argument twice.
	wideFormat = regexp.MustCompile(`[*\[]|[0-9]{4}`)
)

// executeTemplate fills in a caller's template. It ends soon after ctx does, with
// its cause.
func executeTemplate(ctx context.Context, text string, report Report) (string, error) {
	if len(text) > maxTemplate {
		return "", errTemplateSize
	}
	funcs := templateFuncs(ctx)
	t, err := template.New("format").Funcs(funcs).Parse(text)
	if err != nil {
		return "", err
	}
	check, err := template.New("check").Funcs(funcs).Parse("{{withinTime}}")
	if err != nil {
		return "", err
	}
	for _, part := range t.Templates() {
		addChecks(part.Root, check.Root.Nodes[0])
	}
	var out limited
	if err := t.Execute(&out, report); err != nil {
		return "", err
	}
	return out.String(), nil
}

// addChecks puts the node check at the head of every block below list.
func addChecks(list *parse.ListNode, check parse.Node) {
	if list == nil {
		return
	}
	for _, node := range list.Nodes {
		switch n := node.(type) {
		case *parse.IfNode:
			addChecks(n.List, check)
			addChecks(n.ElseList, check)
		case *parse.RangeNode:
			addChecks(n.List, check)
			addChecks(n.ElseList, check)
		case *parse.WithNode:
			addChecks(n.List, check)
			addChecks(n.ElseList, check)
		}
	}
	list.Nodes = append([]parse.Node{check}, list.Nodes...)
}

// templateFuncs are json, the check, and the built-in functions that make texts, with bounds.
func templateFuncs(ctx context.Context) template.FuncMap {
	return template.FuncMap{
		"json": func(v any) (string, error) {
			if text, ok := v.(string); ok && len(text) > maxText {
				return "", errTooMuch
			}
			text, err := json.Marshal(v)
			return string(text), err
		},
		"withinTime": func() (string, error) {
			if ctx.Err() != nil {
				return "", context.Cause(ctx)
			}
			return "", nil
		},
		"print":    bounded(fmt.Sprint),
		"println":  bounded(fmt.Sprintln),
		"html":     bounded(template.HTMLEscaper),
		"js":       bounded(template.JSEscaper),
		"urlquery": bounded(template.URLQueryEscaper),
		"printf": func(format string, args ...any) (string, error) {
			if wideFormat.MatchString(format) {
				return "", errTooMuch
			}
			return bounded(func(args ...any) string { return fmt.Sprintf(format, args...) })(args...)
		},
	}
}

// bounded refuses calls whose result could be long.
func bounded(f func(args ...any) string) func(args ...any) (string, error) {
	return func(args ...any) (string, error) {
		total := 0
		for _, arg := range args {
			if text, ok := arg.(string); ok {
				total += len(text)
			}
		}
		if len(args) > maxArguments || total > maxText {
			return "", errTooMuch
		}
		return f(args...), nil
	}
}

// limited is a strings.Builder that refuses to grow without bound.
type limited struct{ strings.Builder }

func (l *limited) Write(p []byte) (int, error) {
	if l.Len()+len(p) > maxOutput {
		return 0, errOutputSize
	}
	return l.Builder.Write(p)
}
