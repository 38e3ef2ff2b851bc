// Package check holds what deploys the pair against what the pair is: docker-compose.yml and the manifests of
// deploy/kubernetes are read as their own tools read them, into the types of those tools, and every flag in them must
// exist in the programs.
//
// It is a separate module, outside the workspace, because those tools bring more modules than all of Greenlight, and
// nobody who builds or links Greenlight needs one of them.
package check
