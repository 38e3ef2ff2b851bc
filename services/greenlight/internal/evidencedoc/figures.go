package evidencedoc

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/greenlight-ml/greenlight/pkg/gate"
)

// figures judges every judged figure of the file again, and every verdict over a list of them.
func (c *checker) figures(raw json.RawMessage, exact bool) error {
	return walk(raw, func(object map[string]json.RawMessage, raw json.RawMessage) error {
		r, is, err := figure(object, raw)
		if err != nil || is {
			again := judge(r)
			c.add(is && (r.Verdict == gate.Pass || exact) && r.Verdict != again.Verdict, "says that %q is %s; by its figures it is %s: %s",
				r.Name, r.Verdict, again.Verdict, again.Reason)
			c.add(is && r.Verdict == gate.Pass && r.Reason != "", "says that %q is PASS, and why it is not: %s", r.Name, r.Reason)
			c.add(is && r.Verdict != gate.Pass && r.Reason == "", "says that %q is %s, and not why", r.Name, r.Verdict)
			return err
		}
		return c.over(object)
	})
}

// over judges the verdict of an object that has a list of figures: the worst of them.
func (c *checker) over(object map[string]json.RawMessage) error {
	list, said := first(object, "results", "checks", "figures", "blockers"), first(object, "verdict", "result")
	if list == nil || said == nil {
		return nil
	}
	var verdict gate.Verdict
	var figures []gate.Result
	if json.Unmarshal(said, &verdict) != nil || json.Unmarshal(list, &figures) != nil {
		return nil //nolint:nilerr // these are other things by the same names
	}
	worst := gate.Scorecard{Results: figures}.Verdict()
	c.add(len(figures) > 0 && verdict != worst, "says %s over figures of which the worst is %s", verdict, worst)
	return nil
}

func first(object map[string]json.RawMessage, keys ...string) json.RawMessage {
	for _, k := range keys {
		if v := object[k]; v != nil {
			return v
		}
	}
	return nil
}

// figure is the object as a judged figure, if it is one: it has a name, a verdict, a comparison and a threshold.
func figure(object map[string]json.RawMessage, raw json.RawMessage) (r gate.Result, is bool, err error) {
	if object["name"] == nil || object["verdict"] == nil || object["op"] == nil || object["threshold"] == nil {
		return r, false, nil
	}
	err = json.Unmarshal(raw, &r)
	return r, err == nil, err
}

// judge is the result by its own figures.
func judge(r gate.Result) gate.Result {
	seen := gate.Missing("no value")
	switch {
	case r.Value != nil:
		seen = gate.Measured(*r.Value, r.N)
	case r.Verdict == gate.Inconclusive && r.N == 0: // no trial yet is too few, and not a missing source
		seen = gate.Observation{}
	}
	return gate.Check(gate.Rule{Name: r.Name, Op: r.Op, Threshold: r.Threshold, Unit: r.Unit, MinSamples: r.MinSamples, Miss: r.Miss}, seen)
}

// walk calls visit for every object in a JSON value, an outer one before those in it, in the order of their keys.
func walk(raw json.RawMessage, visit func(map[string]json.RawMessage, json.RawMessage) error) error {
	text := strings.TrimSpace(string(raw))
	switch {
	case strings.HasPrefix(text, "["):
		var list []json.RawMessage
		if err := json.Unmarshal(raw, &list); err != nil {
			return err
		}
		for _, v := range list {
			if err := walk(v, visit); err != nil {
				return err
			}
		}
	case strings.HasPrefix(text, "{"):
		var object map[string]json.RawMessage
		if err := json.Unmarshal(raw, &object); err != nil {
			return err
		}
		if err := visit(object, raw); err != nil {
			return err
		}
		for _, key := range slices.Sorted(maps.Keys(object)) {
			if err := walk(object[key], visit); err != nil {
				return err
			}
		}
	}
	return nil
}
