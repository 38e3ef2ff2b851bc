package marketfile

import (
	"cmp"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/greenlight-ml/greenlight/pkg/durable"
)

// source holds the files of one instrument in one folder, of one kind, in time order.
type source struct {
	// folder is relative to the named folder, with slashes; empty for that folder itself.
	folder string
	symbol string
	kind   kind
	files  []stored
}

// find finds the single source that a path names.
func find(root string, opts Options) (source, error) {
	info, err := os.Stat(root)
	if err != nil {
		return source{}, err
	}
	if !info.IsDir() {
		return findFile(root, opts)
	}
	all, unknown, err := findAll(root, opts)
	if err != nil {
		return source{}, err
	}
	switch {
	case len(all) == 0 && len(unknown) == 0:
		return source{}, fmt.Errorf("%s: the folder has no data files (.csv, .tsv, .txt, .gz, .zip, .parquet)", root)
	case len(all) == 0:
		return source{}, unknown[0].err
	}
	chosen, err := choose(all, opts.Symbol)
	if err != nil {
		return source{}, fmt.Errorf("%s: %w", root, err)
	}
	for _, u := range unknown {
		if u.folder == chosen.folder {
			return source{}, u.err // an incomplete set must not be taken for a complete one
		}
	}
	return chosen, nil
}

func findFile(file string, opts Options) (source, error) {
	files, err := inspect(file, opts)
	if err != nil {
		return source{}, err
	}
	var g groups
	for _, s := range files {
		g.add("", s)
	}
	all := g.sources()
	found := all[0]
	if len(all) == 1 {
		found.symbol = cmp.Or(opts.Symbol, found.symbol)
	} else if found, err = choose(all, opts.Symbol); err != nil {
		return source{}, fmt.Errorf("%s: %w", file, err)
	}
	if found.kind == kindSide && len(files) == 1 {
		other, err := otherSide(found.files[0], opts)
		if err != nil {
			return source{}, err
		}
		found.files = append(found.files, other)
	}
	return found, nil
}

// groups collects files into sources.
type groups []*source

func (g *groups) add(folder string, f stored) {
	i := slices.IndexFunc(*g, func(s *source) bool { return s.folder == folder && s.symbol == f.symbol && s.kind == f.kind })
	if i < 0 {
		i = len(*g)
		*g = append(*g, &source{folder: folder, symbol: f.symbol, kind: f.kind})
	}
	(*g)[i].files = append((*g)[i].files, f)
}

func (g groups) sources() []source {
	all := make([]source, len(g))
	for i, s := range g {
		s.sort()
		all[i] = *s
	}
	return all
}

// unread is a file in a folder that could not be recognised.
type unread struct {
	folder string
	err    error
}

// findAll finds every source in a folder and its subfolders.
func findAll(root string, opts Options) ([]source, []unread, error) {
	var found groups
	var unknown []unread
	top := root + string(filepath.Separator) // follows a link to a folder
	entries := 0
	err := filepath.WalkDir(top, func(p string, d fs.DirEntry, err error) error {
		entries++
		switch {
		case err != nil:
			return err
		case entries > durable.MaxEntries:
			return fmt.Errorf("%s: %w: over %d entries: name the folder of the data", root, durable.ErrTooLarge, durable.MaxEntries)
		case p != top && strings.HasPrefix(d.Name(), "."):
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		case !isData(p, d):
			return nil
		}
		folder := relativeFolder(root, p)
		files, err := inspect(p, opts)
		if err != nil && dataEndings[strings.ToLower(filepath.Ext(p))] {
			unknown = append(unknown, unread{folder, err})
		}
		for _, s := range files {
			found.add(folder, s)
		}
		return nil
	})
	if err != nil {
		return nil, nil, err
	}
	return found.sources(), unknown, nil
}

// isData reports whether a file of a folder could hold data. A manifest only lists data.
func isData(p string, d fs.DirEntry) bool {
	if d.Type()&fs.ModeSymlink != 0 {
		info, err := os.Stat(p)
		if err != nil || !info.Mode().IsRegular() {
			return false
		}
	} else if !d.Type().IsRegular() {
		return false
	}
	ending := strings.ToLower(filepath.Ext(p))
	return (dataEndings[ending] || ending == ".txt") && !strings.EqualFold(d.Name(), "MANIFEST.csv")
}

// dataEndings are the endings of files in a folder that must be readable. A .txt file may be a text without a table.
var dataEndings = map[string]bool{".csv": true, ".tsv": true, ".gz": true, ".zip": true, ".parquet": true}

func relativeFolder(root, p string) string {
	rel, err := filepath.Rel(root, filepath.Dir(p))
	if err != nil || rel == "." {
		return ""
	}
	return filepath.ToSlash(rel)
}

// sort orders the files by their first rows, or by name if one cannot be read.
func (s *source) sort() {
	byTime := !slices.ContainsFunc(s.files, func(f stored) bool { return f.first == 0 })
	slices.SortStableFunc(s.files, func(a, b stored) int {
		if byTime && a.first != b.first {
			return cmp.Compare(a.first, b.first)
		}
		return cmp.Compare(a.path, b.path)
	})
}

// names returns all names of a source, the shortest first.
func (s source) names() []string {
	k := string(s.kind)
	return []string{s.symbol, s.folder, path.Join(s.symbol, k), path.Join(s.folder, s.symbol), path.Join(s.folder, s.symbol, k)}
}

// choose returns the source with that name, or the only one.
func choose(sources []source, name string) (source, error) {
	matching := sources
	if name != "" {
		matching = nil
		for _, s := range sources {
			if slices.ContainsFunc(s.names(), func(n string) bool { return strings.EqualFold(n, name) }) {
				matching = append(matching, s)
			}
		}
	}
	switch {
	case len(matching) == 1:
		return matching[0], nil
	case len(matching) > 1:
		return source{}, fmt.Errorf("there are several%s; name one: %s", ofName(name), strings.Join(choices(matching), ", "))
	}
	return source{}, fmt.Errorf("there is no %q; name one: %s", name, strings.Join(choices(sources), ", "))
}

func ofName(name string) string {
	if name == "" {
		return ""
	}
	return fmt.Sprintf(" of %q", name)
}

// choices returns, for each source, the shortest name that no other source has.
func choices(sources []source) []string {
	count := map[string]int{}
	for _, s := range sources {
		for _, n := range slices.Compact(slices.Sorted(slices.Values(s.names()))) {
			count[n]++
		}
	}
	shortest := make([]string, len(sources))
	for i, s := range sources {
		names := s.names()
		shortest[i] = names[len(names)-1]
		for _, n := range names {
			if n != "" && count[n] == 1 {
				shortest[i] = n
				break
			}
		}
	}
	return shortest
}

// otherSide finds the ask file for a bid file, or vice versa, in the same folder.
func otherSide(s stored, opts Options) (stored, error) {
	entries, err := durable.ReadDir(filepath.Dir(s.path), durable.MaxEntries)
	if err != nil {
		return stored{}, err
	}
	wantSide := map[string]string{"bid": "ask", "ask": "bid"}[s.side]
	wantName := sideless(s.name, s.side)
	for _, e := range entries {
		p := filepath.Join(filepath.Dir(s.path), e.Name())
		if !isData(p, e) || !strings.Contains(strings.ToLower(e.Name()), wantSide) {
			continue
		}
		files, err := inspect(p, opts)
		if err != nil {
			continue
		}
		if o := files[0]; len(files) == 1 && o.kind == kindSide && o.side == wantSide && sideless(o.name, o.side) == wantName {
			return o, nil
		}
	}
	return stored{}, fmt.Errorf("%s: has only the %s; there is no %s file in the same folder", s.path, s.side, wantSide)
}

// sideless returns what the names of both sides have in common.
func sideless(name, side string) string {
	name = strings.ToLower(strings.TrimSuffix(name, filepath.Ext(name)))
	return strings.ReplaceAll(name, side, "*")
}
