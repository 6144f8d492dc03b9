"""What is allowed in a recipe but seldom meant: rules, and the findings that they make (docs/checks.md)."""
