package crashtest

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/durable"
)

// A correct writer passes.
func TestCrashWholeFile(t *testing.T) {
	Run(t, Writer{
		Name: "whole file (durable)",
		Write: func(dir string, op int, tell *Teller) error {
			if err := durable.MkdirAll(dir, 0o755); err != nil {
				return err
			}
			for ; ; op++ {
				tell.Begin(op)
				if err := durable.Write(filepath.Join(dir, "number"), 0o644, content(op)); err != nil {
					return err
				}
				tell.Done(op)
			}
		},
		Read: func(dir string) ([]int, error) {
			raw, err := os.ReadFile(filepath.Join(dir, "number"))
			if errors.Is(err, fs.ErrNotExist) {
				return nil, nil
			}
			if err != nil {
				return nil, err
			}
			op, err := strconv.Atoi(strings.TrimSpace(string(raw)))
			return []int{op}, err
		},
		Latest: true,
	})
}

// The faults that the ledger finds.
func TestJudge(t *testing.T) {
	for name, tt := range map[string]struct {
		done, begun, found []int
		latest             bool
		lost, invented     []int
	}{
		"all there":                {[]int{1, 2}, []int{1, 2, 3}, []int{2, 1}, false, nil, nil},
		"one more than promised":   {[]int{1, 2}, []int{1, 2, 3}, []int{1, 2, 3}, false, nil, nil},
		"one lost":                 {[]int{1, 2}, []int{1, 2, 3}, []int{1, 3}, false, []int{2}, nil},
		"one twice":                {[]int{1, 2}, []int{1, 2}, []int{1, 2, 2}, false, nil, []int{2}},
		"never begun":              {[]int{1}, []int{1}, []int{1, 7}, false, nil, []int{7}},
		"the newest":               {[]int{1, 2}, []int{1, 2, 3}, []int{2}, true, nil, nil},
		"newer than promised":      {[]int{1, 2}, []int{1, 2, 3}, []int{3}, true, nil, nil},
		"older than promised":      {[]int{1, 2}, []int{1, 2, 3}, []int{1}, true, []int{2}, nil},
		"nothing, though promised": {[]int{1}, []int{1}, nil, true, []int{1}, nil},
		"nothing, and no promise":  {nil, []int{1}, nil, true, nil, nil},
		"two of one":               {[]int{1}, []int{1, 2}, []int{1, 2}, true, nil, []int{1, 2}},
	} {
		l := ledger{begun: map[int]bool{}, done: tt.done}
		for _, op := range tt.begun {
			l.begun[op] = true
		}
		lost, invented := l.judge(tt.found, tt.latest)
		if !slices.Equal(lost, tt.lost) || !slices.Equal(invented, tt.invented) {
			t.Errorf("%s: got %v lost and %v invented, want %v and %v", name, lost, invented, tt.lost, tt.invented)
		}
	}
}

// The faults that a trace shows.
func TestDisk(t *testing.T) {
	const good = `7 mkdirat(AT_FDCWD</>, "/b/state", 0755) = 0
7 fsync(4</b>) = 0
7 openat(AT_FDCWD</>, "/b/state/.x.tmp", O_WRONLY|O_CREAT|O_EXCL|O_CLOEXEC, 0644) = 5</b/state/.x.tmp>
7 write(5</b/state/.x.tmp>, "abc", 3 <unfinished ...>
8 write(1</dev/null>, "abc", 3) = 3
7 <... write resumed>) = 3
7 fsync(5</b/state/.x.tmp>) = 0
7 renameat(AT_FDCWD</>, "/b/state/.x.tmp", 6</b/state>, "x") = 0
7 fsync(6</b/state>) = 0
7 write(3<pipe:[1]>, "done 1\n", 7) = 7
`
	for name, tt := range map[string]struct{ cut, want string }{
		"good":                        {"", ""},
		"the folder is not synced":    {"7 fsync(4</b>) = 0\n", "not synced yet: /b/"},
		"the content is not synced":   {"7 fsync(5</b/state/.x.tmp>) = 0\n", "while /b/state/.x.tmp is not synced"},
		"the new name is not synced":  {"7 fsync(6</b/state>) = 0\n", "not synced yet: /b/state/"},
		"a sync that failed is none":  {"/b/state>) = 0", "not synced yet: /b/state/"},
		"a write that failed is none": {"7 <... write resumed>) = 3\n", ""},
	} {
		text := strings.Replace(good, tt.cut, "", 1)
		if strings.HasPrefix(tt.cut, "/") {
			text = strings.Replace(good, tt.cut, "/b/state>) = -1 EIO (Input/output error)", 1)
		}
		d := newDisk("/b")
		if err := d.follow(strings.NewReader(text)); err != nil {
			t.Fatal(err)
		}
		got := strings.Join(d.faults, "\n")
		if (got == "") != (tt.want == "") || !strings.Contains(got, tt.want) || d.acknowledged != 1 {
			t.Errorf("%s: got %q, want %q", name, got, tt.want)
		}
	}
}

// content is a number with enough blanks to need several writes.
func content(op int) func(io.Writer) error {
	return func(w io.Writer) error {
		_, err := fmt.Fprintf(w, "%d%s\n", op, strings.Repeat(" ", 1<<18))
		return err
	}
}
