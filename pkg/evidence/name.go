package evidence

import (
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"strings"
	"unicode"
)

// checkName rejects names that leave the folder, are hidden in it, or belong to the store.
func checkName(name string) error {
	first, _, _ := strings.Cut(name, "/")
	switch {
	case !fs.ValidPath(name), name == ".", !filepath.IsLocal(filepath.FromSlash(name)):
		return fmt.Errorf("evidence name %q: want a relative path with slashes that stays in the folder", name)
	case strings.HasPrefix(name, "."), strings.Contains(name, "/."):
		return fmt.Errorf("evidence name %q: names that start with a dot are reserved for the store", name)
	case strings.ContainsFunc(name, unicode.IsControl), strings.Contains(name, `\`):
		return fmt.Errorf("evidence name %q: control characters and backslashes are not allowed", name)
	}
	for _, own := range []string{chainName, headName, sealName, tornDir} {
		if strings.EqualFold(first, own) { // some file systems ignore case
			return fmt.Errorf("evidence name %q: %s is reserved for the store", name, own)
		}
	}
	return nil
}

// isJSON reports whether name is a JSON document, which has a header.
func isJSON(name string) bool { return strings.EqualFold(path.Ext(name), ".json") }

// isTemp reports whether name may be a [durable.Temporary]; evidence names cannot start with a dot.
func isTemp(name string) bool {
	base := path.Base(name)
	return strings.HasPrefix(base, ".") && strings.HasSuffix(base, ".tmp")
}

// Litter returns the kind of program that leaves files of this name in any folder, or "" for all other names. A JSON
// document is never litter: it could be mistaken for evidence.
func Litter(name string) string {
	base := path.Base(name)
	lower := strings.ToLower(base)
	match := func(pattern string) bool {
		ok, err := path.Match(pattern, base)
		return ok && err == nil
	}
	switch {
	case isJSON(base):
		return ""
	case base == ".DS_Store", base == ".localized", match("._*"):
		return "macOS"
	case lower == "thumbs.db", lower == "ehthumbs.db", lower == "desktop.ini":
		return "Windows"
	case base == ".directory":
		return "a file manager"
	case base == ".gitignore", base == ".gitattributes", base == ".gitkeep":
		return "git"
	case match("*~"), match(".*.sw[a-p]"), match("#*#"), match(".#*"):
		return "an editor"
	}
	return ""
}
