package faults

import (
	"context"
	"fmt"
	"slices"
)

// Let lets the fault of the name loose on the stage alone, for loads of others. Its end must be called before another is
// let loose; it returns when ml-engine can be reached again. Faults that need executors of their own are not for this.
func (s *Stage) Let(ctx context.Context, name string) (end func(context.Context) error, err error) {
	all := Faults()
	i := slices.IndexFunc(all, func(f Fault) bool { return f.Name == name })
	if i < 0 || all[i].both || all[i].named {
		return nil, fmt.Errorf("no fault of a stage is named %q", name)
	}
	if s.untidy != nil {
		if err := s.untidy(ctx); err != nil {
			return nil, err
		}
		s.untidy = nil
	}
	t := &trial{stage: s}
	finish, err := all[i].begin(ctx, t)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return func(ctx context.Context) error {
		err := finish(ctx)
		s.untidy = t.afterwards
		return err
	}, nil
}
