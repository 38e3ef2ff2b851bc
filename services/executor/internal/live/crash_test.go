package live

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"testing"

	"github.com/greenlight-ml/greenlight/pkg/durable"
	"github.com/greenlight-ml/greenlight/pkg/feature"
	"github.com/greenlight-ml/greenlight/pkg/testkit/crashtest"
)

// After operation n the snapshot has n quotes of each symbol.
func TestCrash(t *testing.T) {
	const symbols = 20
	quotes := func(b *feature.Builders) int { return int(b.Count(feature.Accepted)) / symbols }
	crashtest.Run(t, crashtest.Writer{
		Name: "quote snapshots",
		Write: func(dir string, op int, tell *crashtest.Teller) error {
			if _, err := durable.Own(dir); err != nil {
				return err
			}
			b, err := Folder(dir).Load(feature.BuildersOptions{}, slog.New(slog.DiscardHandler))
			if err != nil {
				return err
			}
			for have := quotes(b); ; op++ {
				tell.Begin(op)
				for ; have < op; have++ {
					for k := range symbols {
						if _, err := b.Observe(fmt.Sprint("S", k), quote(have)); err != nil {
							return err
						}
					}
				}
				if err := Folder(dir).save(b); err != nil {
					return err
				}
				tell.Done(op)
			}
		},
		Read: func(dir string) ([]int, error) {
			b, err := Folder(dir).Load(feature.BuildersOptions{}, slog.New(slog.DiscardHandler))
			if err != nil {
				return nil, err
			}
			if aside, err := filepath.Glob(filepath.Join(dir, "*unusable*")); err != nil || len(aside) > 0 {
				return nil, fmt.Errorf("set aside: %q, %w", aside, err)
			}
			if quotes(b) == 0 {
				return nil, nil
			}
			return []int{quotes(b)}, nil
		},
		Latest: true,
	})
}

// A truncated snapshot is set aside, wherever it is cut: the features start empty and are never partial.
func TestSnapshotCutAnywhere(t *testing.T) {
	b, err := feature.NewBuilders(feature.BuildersOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for _, symbol := range []string{"A", "B"} {
		if _, err := b.Observe(symbol, quote(1)); err != nil {
			t.Fatal(err)
		}
	}
	var whole bytes.Buffer
	if err := b.Snapshot(&whole); err != nil {
		t.Fatal(err)
	}
	for cut := range whole.Len() {
		if _, err := feature.RestoreBuilders(bytes.NewReader(whole.Bytes()[:cut]), feature.BuildersOptions{}); !errors.Is(err, feature.ErrSnapshot) {
			t.Fatalf("cut at %d of %d: got %v, want %v", cut, whole.Len(), err, feature.ErrSnapshot)
		}
	}
}
