// Package check compares the deployment files with the programs: it reads docker-compose.yml and the manifests of
// deploy/kubernetes with the types of docker compose and Kubernetes, and every flag in them must exist in the programs.
//
// It is a separate module outside the workspace, because these types need more modules than all of Greenlight, and nobody who
// builds or links Greenlight needs any of them.
package check
