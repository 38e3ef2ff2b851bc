// Package deploytest has no code. Its tests hold what operators load, the rules and the dashboard in deploy, against the
// design and against the pair at work: every alert is described and tested, and every query finds data.
package deploytest
