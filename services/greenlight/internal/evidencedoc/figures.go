package evidencedoc

import (
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"github.com/greenlight-ml/greenlight/pkg/gate"
)

// figures judges every judged figure of the file again, and every verdict on a list of figures.
func (c *checker) figures(raw json.RawMessage, exact bool) error {
	return walk(raw, func(object map[string]json.RawMessage, raw json.RawMessage) error {
		r, is, err := figure(object, raw)
		if err != nil || is {
			again := judge(r)
			c.add(is && (r.Verdict == gate.Pass || exact) && r.Verdict != again.Verdict, "records %q as %s, but its figures give %s: %s",
				r.Name, r.Verdict, again.Verdict, again.Reason)
			c.add(is && r.Verdict == gate.Pass && r.Reason != "", "records %q as PASS, but with a reason against a PASS: %s", r.Name, r.Reason)
			c.add(is && r.Verdict != gate.Pass && r.Reason == "", "records %q as %s without a reason", r.Name, r.Verdict)
			return err
		}
		return c.overall(object)
	})
}

// overall judges the verdict of an object that has a list of figures: it must be the worst of them.
func (c *checker) overall(object map[string]json.RawMessage) error {
	list, recorded := first(object, "results", "checks", "figures", "blockers"), first(object, "verdict", "result")
	if list == nil || recorded == nil {
		return nil
	}
	var verdict gate.Verdict
	var figures []gate.Result
	if json.Unmarshal(recorded, &verdict) != nil || json.Unmarshal(list, &figures) != nil {
		return nil //nolint:nilerr // the same keys are used for something else here
	}
	worst := gate.Scorecard{Results: figures}.Verdict()
	c.add(len(figures) > 0 && verdict != worst, "records %s, but the worst of its figures is %s", verdict, worst)
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

// figure decodes the object as a judged figure. is reports whether it is a judged figure: an object with a name, a verdict, a
// comparison and a threshold.
func figure(object map[string]json.RawMessage, raw json.RawMessage) (r gate.Result, is bool, err error) {
	if object["name"] == nil || object["verdict"] == nil || object["op"] == nil || object["threshold"] == nil {
		return r, false, nil
	}
	err = json.Unmarshal(raw, &r)
	return r, err == nil, err
}

// judge judges the result again from its own value, threshold and number of samples.
func judge(r gate.Result) gate.Result {
	seen := gate.Missing("no value")
	switch {
	case r.Value != nil:
		seen = gate.Measured(*r.Value, r.N)
	case r.Verdict == gate.Inconclusive && r.N == 0: // no trials yet: there are too few samples, no source is missing
		seen = gate.Observation{}
	}
	return gate.Check(gate.Rule{Name: r.Name, Op: r.Op, Threshold: r.Threshold, Unit: r.Unit, MinSamples: r.MinSamples, Miss: r.Miss}, seen)
}

// walk calls visit for every object in a JSON value: outer objects before inner ones, in the order of their keys.
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
