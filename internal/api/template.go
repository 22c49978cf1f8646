package api

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"text/template"
	"time"
)

const (
	maxTemplate   = 32 << 10 // bytes
	maxTemplateBy = 64 << 20 // bytes of output
	templateTime  = 5 * time.Second
)

var (
	errTemplateSize = errors.New("template is longer than 32 KiB")
	errOutputSize   = errors.New("template writes more than 64 MiB")
)

// executeTemplate fills in a caller's template.
func executeTemplate(ctx context.Context, text string, report Report) (string, error) {
	if len(text) > maxTemplate {
		return "", errTemplateSize
	}
	t, err := template.New("format").Funcs(template.FuncMap{"json": toJSON}).Parse(text)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, templateTime)
	defer cancel()
	var out limited
	if err := t.Execute(&out, report); err != nil {
		return "", err
	}
	return out.String(), nil
}

func toJSON(v any) (string, error) {
	text, err := json.Marshal(v)
	return string(text), err
}

// limited is a strings.Builder that refuses to grow without bound.
type limited struct{ strings.Builder }

func (l *limited) Write(p []byte) (int, error) {
	if l.Len()+len(p) > maxTemplateBy {
		return 0, errOutputSize
	}
	return l.Builder.Write(p)
}
