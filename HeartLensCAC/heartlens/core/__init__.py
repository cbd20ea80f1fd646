"""The ground: CT, lesions, protocol, geometry, errors and files written whole; numpy alone."""
