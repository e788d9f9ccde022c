// Package report is what a scenario tells: to a person a table and its progress, to a program a JSON file.
package report

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"
	"text/tabwriter"
	"time"
)

// Result is what a run of a scenario found.
type Result struct {
	Scenario string `json:"scenario"`
	Kind     string `json:"kind"`
	About    string `json:"about,omitempty"`
	Seed     uint64 `json:"seed"`
	// Settings are the scenario as it was run, with all defaults.
	Settings any       `json:"settings"`
	Started  time.Time `json:"started"`
	Seconds  float64   `json:"seconds"`
	Machine  Machine   `json:"machine"`
	Versions Versions  `json:"versions"`
	Tables   []*Table  `json:"tables"`
	Figures  []Figure  `json:"figures"`
	Promises []Promise `json:"promises"`
	// OK says that every promise was kept; Error why the run ended early.
	OK    bool   `json:"ok"`
	Error string `json:"error,omitempty"`
	// Folder has the data and logs, where they were kept.
	Folder string `json:"folder,omitempty"`

	mu sync.Mutex
}

// Figure is one measured number.
type Figure struct {
	Name  string  `json:"name"`
	Value float64 `json:"value"`
	Unit  string  `json:"unit"`
}

// Promise is something that must hold.
type Promise struct {
	Promise string `json:"promise"`
	Kept    bool   `json:"kept"`
	Found   string `json:"found"`
	Details any    `json:"details,omitempty"`
}

// Table is a table for a person; its cells are text. Programs read the figures.
type Table struct {
	Title   string     `json:"title"`
	Columns []string   `json:"columns"`
	Rows    [][]string `json:"rows"`
}

// Row adds a row.
func (t *Table) Row(cells ...string) { t.Rows = append(t.Rows, cells) }

// Table adds a table.
func (r *Result) Table(title string, columns ...string) *Table {
	t := &Table{Title: title, Columns: columns}
	r.Tables = append(r.Tables, t)
	return t
}

// Figure adds a measured number.
func (r *Result) Figure(name string, value float64, unit string) {
	r.Figures = append(r.Figures, Figure{Name: name, Value: value, Unit: unit})
}

// Promise says whether something that must hold did, and what was found. It is safe for concurrent use.
func (r *Result) Promise(promise string, kept bool, details any, found string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.Promises = append(r.Promises, Promise{Promise: promise, Kept: kept, Found: fmt.Sprintf(found, args...), Details: details})
}

// Finish fills in what is known at the end. A scenario that ended early kept nothing.
func (r *Result) Finish(err error) {
	r.Seconds = time.Since(r.Started).Seconds()
	r.OK = err == nil
	if err != nil {
		r.Error = err.Error()
	}
	r.OK = r.OK && r.Kept()
}

// Kept says whether every promise so far was kept.
func (r *Result) Kept() bool {
	return !slices.ContainsFunc(r.Promises, func(p Promise) bool { return !p.Kept })
}

// Print shows the result to a person.
func (r *Result) Print(out io.Writer) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	for _, t := range r.Tables {
		fmt.Fprintf(w, "\n%s\n\n", t.Title)
		printRow(w, t.Columns)
		for _, row := range t.Rows {
			printRow(w, row)
		}
		if err := w.Flush(); err != nil {
			return fmt.Errorf("print the result: %w", err)
		}
	}
	fmt.Fprintln(out)
	for _, p := range r.Promises {
		fmt.Fprintf(out, "%-7s %s: %s\n", map[bool]string{true: "kept", false: "BROKEN"}[p.Kept], p.Promise, p.Found)
	}
	if r.Folder != "" {
		fmt.Fprintf(out, "\ndata and logs are in %s\n", r.Folder)
	}
	_, err := fmt.Fprintf(out, "\n%s (seed %d) on %s in %.0f s\n", r.Scenario, r.Seed, r.Machine, r.Seconds)
	return err
}

func printRow(w io.Writer, cells []string) {
	for _, cell := range cells {
		fmt.Fprintf(w, "%s\t", cell)
	}
	fmt.Fprintln(w)
}

// WriteJSON writes the result to a file.
func (r *Result) WriteJSON(path string) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the result: %w", err)
	}
	if err := os.WriteFile(path, append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("write the result: %w", err)
	}
	return nil
}
