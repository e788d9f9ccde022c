// Package route holds the type of which every HTTP endpoint of every API is one
// value, and everything that follows from such values: the mounted handlers with
// their limits and refusals, the OpenAPI description, the proxy's routing, the
// coverage table and the matrix of who may call what.
//
// An endpoint is added by adding a Route to its API's table. Nothing about it is
// written a second time anywhere else.
package route
