// Package deploytest contains only tests. They check the rules and the dashboard in deploy against each other and against
// running programs: every alert is described and tested, and every query finds data.
package deploytest
