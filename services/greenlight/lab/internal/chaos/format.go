package chaos

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"

	"github.com/greenlight-ml/greenlight/pkg/durable"
)

var stopped = regexp.MustCompile(`executor stopped.*requests"?[=:](\d+).*in_flight"?[=:](\d+)`)

// lastWords reads what an executor has logged as it stopped: how many requests it has counted, and how many were under way
// then.
func lastWords(path string) (life, error) {
	raw, err := durable.ReadFile(path, durable.MaxDocument)
	if err != nil {
		return life{}, err
	}
	m := stopped.FindSubmatch(raw)
	if m == nil {
		return life{}, fmt.Errorf("%s: executor does not say that it stopped", path)
	}
	requests, err := strconv.ParseUint(string(m[1]), 10, 64)
	inFlight, err2 := strconv.ParseUint(string(m[2]), 10, 64)
	return life{requests, inFlight}, errors.Join(err, err2)
}
