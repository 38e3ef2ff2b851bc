package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestFoundFaults finds every test that docs/found.md names, in some package of the tree.
func TestFoundFaults(t *testing.T) {
	root := filepath.Join("..", "..")
	page, err := os.ReadFile(filepath.Join(root, "docs", "found.md"))
	if err != nil {
		t.Fatal(err)
	}
	named := map[string]bool{}
	for _, m := range regexp.MustCompile("`(Test[A-Za-z0-9]+)`").FindAllStringSubmatch(string(page), -1) {
		named[m[1]] = true
	}
	if len(named) < 30 {
		t.Fatalf("docs/found.md names %d tests: the pattern that finds them is broken", len(named))
	}
	declared := regexp.MustCompile(`(?m)^func (Test[A-Za-z0-9]+)\(`)
	for _, folder := range []string{"pkg", "services"} {
		if err := filepath.WalkDir(filepath.Join(root, folder), func(path string, _ os.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, "_test.go") {
				return err
			}
			source, err := os.ReadFile(path)
			for _, m := range declared.FindAllSubmatch(source, -1) {
				delete(named, string(m[1]))
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	for name := range named {
		t.Errorf("docs/found.md names %s, which no package has: rename it there too", name)
	}
}

// TestWhereIsWhat finds every file that the table in CONTRIBUTING.md names, and in it the identifier.
func TestWhereIsWhat(t *testing.T) {
	root := filepath.Join("..", "..")
	page, err := os.ReadFile(filepath.Join(root, "CONTRIBUTING.md"))
	if err != nil {
		t.Fatal(err)
	}
	rows := regexp.MustCompile("(?m)^\\| where .+ \\| `(.+\\.go)` \\| `(.+)` \\|$").FindAllStringSubmatch(string(page), -1)
	if n := strings.Count(string(page), "\n| where "); len(rows) < 10 || len(rows) != n {
		t.Fatalf("%d of %d rows were read", len(rows), n)
	}
	for _, row := range rows {
		source, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(row[1])))
		if err != nil {
			t.Error(err)
		} else if !regexp.MustCompile(`(?m)^(?:(?:func (?:\(.*?\) )?|var |\t)` + row[2] + `\b)`).Match(source) {
			t.Errorf("%s declares no %s", row[1], row[2])
		}
	}
}
