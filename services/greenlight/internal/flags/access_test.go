package flags

import (
	"slices"
	"testing"

	"github.com/spf13/pflag"
)

// No address in a list is dropped without an error, because the command may be a stop.
func TestTargets(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args []string
		want []string // nil: refused
	}{
		{nil, []string{"127.0.0.1:4020"}},
		{[]string{"--executor=a:1, b:2", "--executor=c:3"}, []string{"a:1", "b:2", "c:3"}},
		{[]string{"--executor=a:1", "--executor="}, nil},
		{[]string{"--executor=a:1,"}, nil},
		{[]string{"--executor=a:1\nb:2"}, nil},
		{[]string{`--executor="a:1"`}, nil},
	} {
		fs := pflag.NewFlagSet("x", pflag.ContinueOnError)
		var got []string
		TargetsVar(fs, &got, "executor", []string{"127.0.0.1:4020"}, "addresses")
		err := fs.Parse(c.args)
		if (err == nil) != (c.want != nil) || err == nil && !slices.Equal(got, c.want) {
			t.Errorf("%q: %q, %v; want %q", c.args, got, err, c.want)
		}
	}
}
