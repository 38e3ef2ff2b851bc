package shadow

import (
	"fmt"
	"math"

	"github.com/cespare/xxhash/v2"
)

// Sampler decides which requests get a shadow, by a hash of the request id. Replicas with the same salt choose the same
// requests, and a larger percentage includes all requests of a smaller one.
type Sampler struct {
	salt  string
	limit uint64 // hashes below it are sampled
	all   bool
}

// NewSampler returns a sampler of percent, in [0,100], of the requests.
func NewSampler(salt string, percent float64) (*Sampler, error) {
	if math.IsNaN(percent) || percent < 0 || percent > 100 {
		return nil, fmt.Errorf("sample percent %v: want a number in [0,100]", percent)
	}
	return &Sampler{salt: salt, limit: uint64(percent / 100 * math.MaxUint64), all: percent == 100}, nil
}

// Sampled reports whether the request gets a shadow.
func (s *Sampler) Sampled(requestID string) bool {
	if s.all {
		return true
	}
	var d xxhash.Digest
	d.Reset()
	_, _ = d.WriteString(s.salt)
	_, _ = d.Write([]byte{0}) // so that salt "a" id "bc" is not salt "ab" id "c"
	_, _ = d.WriteString(requestID)
	return d.Sum64() < s.limit
}
