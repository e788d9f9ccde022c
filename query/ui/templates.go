package ui

import (
	"embed"
	"fmt"
	"html/template"
	"strconv"
)

//go:embed templates
var templateFiles embed.FS

// parse reads every page's template, each within the layout.
func (u *UI) parse() (map[string]*template.Template, error) {
	layout, err := template.New("layout.html").Funcs(u.functions()).ParseFS(templateFiles, "templates/layout.html", "templates/parts.html")
	if err != nil {
		return nil, fmt.Errorf("parse the pages' layout: %w", err)
	}
	pages := map[string]*template.Template{}
	for _, name := range []string{"overview", "machine", "trend", "trendruns", "run", "queues", "queue", "jobs", "job", "agents", "agent", "letters", "letter", "docs", "error"} {
		page, err := layout.Clone()
		if err == nil {
			page, err = page.ParseFS(templateFiles, "templates/"+name+".html")
		}
		if err != nil {
			return nil, fmt.Errorf("parse page %s: %w", name, err)
		}
		pages[name] = page
	}
	return pages, nil
}

func plainNumber(before string, n uint64) string { return before + strconv.FormatUint(n, 10) }
