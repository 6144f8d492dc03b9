#include <Python.h>
static PyObject *name(PyObject *self, PyObject *none) { (void)self; (void)none; return PyUnicode_FromString("Python"); }
static PyMethodDef methods[] = {{"name", name, METH_NOARGS, "a name"}, {NULL, NULL, 0, NULL}};
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_speed", NULL, -1, methods, NULL, NULL, NULL, NULL};
PyMODINIT_FUNC PyInit__speed(void) { return PyModule_Create(&module); }
