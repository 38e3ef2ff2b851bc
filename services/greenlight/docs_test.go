package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"

	executorv1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/executor/v1"
	mlenginev1 "github.com/greenlight-ml/greenlight/proto/gen/greenlight/mlengine/v1"
)

// TestFoundFaults checks that every test that docs/found.md names exists.
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
		t.Errorf("docs/found.md names %s, which does not exist: rename it there too", name)
	}
}

// TestWhereIsWhat checks that every file in the table of CONTRIBUTING.md exists and declares the identifier.
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

// TestNoColour checks that the programs have no escape sequence that sets a colour: docs/operator.md promises that there is
// none, so NO_COLOR has nothing to turn off.
func TestNoColour(t *testing.T) {
	colour := regexp.MustCompile(`\\(x1b|033|u001b|e)\[[0-9;]*m`)
	files := 0
	for _, folder := range []string{"pkg", "services"} {
		if err := filepath.WalkDir(filepath.Join("..", "..", folder), func(path string, _ os.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			files++
			source, err := os.ReadFile(path)
			if found := colour.Find(source); found != nil {
				t.Errorf("%s prints %s: read NO_COLOR (https://no-color.org), and say so in docs/operator.md", path, found)
			}
			return err
		}); err != nil {
			t.Fatal(err)
		}
	}
	if files < 100 {
		t.Errorf("%d files were read", files)
	}
}

// TestContractPages checks that docs/reference/contract has every service of the contract, its methods, and the fields of
// their requests and responses, and that the links of the pages work.
func TestContractPages(t *testing.T) {
	folder := filepath.Join("..", "..", "docs", "reference", "contract")
	services := 0
	for _, pkg := range []protoreflect.FullName{executorv1.File_greenlight_executor_v1_decision_proto.Package(), mlenginev1.File_greenlight_mlengine_v1_scoring_proto.Package()} {
		protoregistry.GlobalFiles.RangeFilesByPackage(pkg, func(file protoreflect.FileDescriptor) bool {
			for i := range file.Services().Len() {
				services++
				checkContractPage(t, folder, file.Services().Get(i))
			}
			return true
		})
	}
	if services < 8 {
		t.Errorf("%d services were found", services)
	}
}

func checkContractPage(t *testing.T, folder string, service protoreflect.ServiceDescriptor) {
	t.Helper()
	path := filepath.Join(folder, strings.TrimPrefix(string(service.FullName()), "greenlight.")+".md")
	page, err := os.ReadFile(path)
	if err != nil {
		t.Error(err)
		return
	}
	checkLinks(t, path, string(page))
	want := []string{"# " + string(service.Name())}
	for i := range service.Methods().Len() {
		method := service.Methods().Get(i)
		want = append(want, "### "+string(method.Name()))
		for _, message := range []protoreflect.MessageDescriptor{method.Input(), method.Output()} {
			want = append(want, "### "+string(message.Name()))
			for k := range message.Fields().Len() {
				field := message.Fields().Get(k)
				want = append(want, fmt.Sprintf("| %#q = %d |", field.Name(), field.Number()))
			}
		}
	}
	for _, text := range want {
		if !strings.Contains(string(page), "\n"+text) && !strings.HasPrefix(string(page), text) {
			t.Errorf("%s lacks %q", path, text)
		}
	}
	for _, m := range regexp.MustCompile(`\]\(#([a-z]+)\)`).FindAllStringSubmatch(string(page), -1) {
		if !regexp.MustCompile(`(?mi)^### ` + m[1] + `$`).Match(page) {
			t.Errorf("%s links to #%s, which it lacks", path, m[1])
		}
	}
}
