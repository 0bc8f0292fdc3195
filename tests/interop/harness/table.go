package harness

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// Table is one of the tables that `make interop` prints.
type Table struct {
	mutex sync.Mutex
	file  string
	lines []string
	notes []string
	width int
}

// NewTable starts build/conformance/<file>.md.
func NewTable(file, title string, columns ...string) *Table {
	rule := strings.TrimSuffix(strings.Repeat("---|", len(columns)), "|")
	return &Table{
		file:  filepath.Join(Root(), "build/conformance", file+".md"),
		lines: []string{"# " + title, "", row(columns), "|" + rule + "|"},
		width: len(columns),
	}
}

// Row adds a line; each cell is printed as %v does.
func (table *Table) Row(cells ...any) {
	table.mutex.Lock()
	defer table.mutex.Unlock()
	texts := make([]string, table.width)
	for number, cell := range cells {
		texts[number] = strings.ReplaceAll(fmt.Sprint(cell), "|", "\\|")
	}
	table.lines = append(table.lines, row(texts))
}

// Note is a line below the table, such as its totals.
func (table *Table) Note(format string, arguments ...any) {
	table.notes = append(table.notes, "", fmt.Sprintf(format, arguments...))
}

// Write puts the table where `make interop` finds it.
func (table *Table) Write(t testing.TB) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(table.file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(table.file, []byte(strings.Join(append(table.lines, table.notes...), "\n")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
}

func row(cells []string) string { return "| " + strings.Join(cells, " | ") + " |" }
