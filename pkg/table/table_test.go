package table_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/table"
)

func example() *table.Table {
	t := table.New("figure", ">n", "reason")
	t.Row("match rate", 1000, "")
	t.Below("    a line of any width\n")
	t.Row("a|b", 7, "two\nlines\tand a tab")
	t.Row("short row")
	return t
}

func TestText(t *testing.T) {
	t.Parallel()
	const want = `figure      n     reason
match rate  1000
    a line of any width
a|b         7     two lines and a tab
short row
`
	var got strings.Builder
	if err := example().Text(&got); err != nil || got.String() != want {
		t.Errorf("got %v\n%s\nwant\n%s", err, got.String(), want)
	}
}

func TestPairs(t *testing.T) {
	t.Parallel()
	var got strings.Builder
	if err := table.Pairs(&got, [][2]string{{"run", "7"}, {"confirmation", "none: a dry run"}}); err != nil {
		t.Fatal(err)
	}
	if want := "run           7\nconfirmation  none: a dry run\n"; got.String() != want {
		t.Errorf("got\n%s\nwant\n%s", got.String(), want)
	}
}

func TestMarkdown(t *testing.T) {
	t.Parallel()
	const want = `| figure | n | reason |
|---|---:|---|
| match rate | 1000 |  |
| a\|b | 7 | two lines and a tab |
| short row |
`
	var got strings.Builder
	if err := example().Markdown(&got); err != nil || got.String() != want {
		t.Errorf("got %v\n%s\nwant\n%s", err, got.String(), want)
	}
}

var errDisk = errors.New("disk full")

type failing struct{}

func (failing) Write([]byte) (int, error) { return 0, errDisk }

func TestWriteErrorsAreReturned(t *testing.T) {
	t.Parallel()
	if err := example().Text(failing{}); !errors.Is(err, errDisk) {
		t.Errorf("text: got %v", err)
	}
	if err := example().Markdown(failing{}); !errors.Is(err, errDisk) {
		t.Errorf("Markdown: got %v", err)
	}
}
