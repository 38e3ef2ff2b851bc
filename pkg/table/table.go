// Package table writes rows as aligned text for terminals and as Markdown for documents.
package table

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// Table is a list of rows under headings. Use [New] to create one.
type Table struct {
	rows []row // the first has the headings
	// right has a flag per column.
	right []bool
}

type row struct {
	cells []string
	// below are lines between this row and the next.
	below string
}

// New returns a table without rows. A heading that begins with ">" is shown without it, and aligns its column to the right
// in Markdown.
func New(heads ...string) *Table {
	t := &Table{right: make([]bool, len(heads))}
	cells := make([]any, len(heads))
	for i, h := range heads {
		cells[i], t.right[i] = strings.CutPrefix(h, ">")
	}
	t.Row(cells...)
	return t
}

// Row adds a row. It formats the cells with [fmt.Sprint] and keeps each on one line.
func (t *Table) Row(cells ...any) {
	r := row{cells: make([]string, len(cells))}
	for i, c := range cells {
		r.cells[i] = strings.Join(strings.Fields(fmt.Sprint(c)), " ")
	}
	t.rows = append(t.rows, r)
}

// Below adds lines below the last row. Text writes them unchanged, and Markdown omits them.
func (t *Table) Below(lines string) { t.rows[len(t.rows)-1].below += lines }

// Text writes the table as aligned text, with the headings in the first line.
func (t *Table) Text(w io.Writer) error {
	var aligned bytes.Buffer
	tw := tabwriter.NewWriter(&aligned, 0, 0, 2, ' ', 0)
	for _, r := range t.rows {
		_, _ = fmt.Fprintln(tw, strings.Join(r.cells, "\t")) // a bytes.Buffer does not fail
	}
	_ = tw.Flush()
	var out strings.Builder
	for _, r := range t.rows {
		line, _ := aligned.ReadString('\n')
		out.WriteString(strings.TrimRight(line, " \n") + "\n" + r.below)
	}
	_, err := io.WriteString(w, out.String())
	return err
}

// Pairs writes names with their values in two columns, without headings.
func Pairs(w io.Writer, pairs [][2]string) error {
	t := &Table{}
	for _, p := range pairs {
		t.Row(p[0], p[1])
	}
	return t.Text(w)
}

// Markdown writes the table as Markdown.
func (t *Table) Markdown(w io.Writer) error {
	var out strings.Builder
	for i, r := range t.rows {
		out.WriteString("|")
		for _, c := range r.cells {
			out.WriteString(" " + strings.ReplaceAll(c, "|", `\|`) + " |")
		}
		out.WriteString("\n")
		if i > 0 {
			continue
		}
		out.WriteString("|")
		for _, right := range t.right {
			if right {
				out.WriteString("---:|")
			} else {
				out.WriteString("---|")
			}
		}
		out.WriteString("\n")
	}
	_, err := io.WriteString(w, out.String())
	return err
}
