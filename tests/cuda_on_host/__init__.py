"""What stands in for CuPy where there is no device: tests run the code for devices on the host.

``cupy`` is the module, strict as CuPy is; its arrays are in ``arrays``. The fixture ``device_cupy``
puts it into `sys.modules` for the time of a test.
"""
