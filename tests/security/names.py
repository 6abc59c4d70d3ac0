"""Names that somebody could give to harm, and a few that only look odd."""

NAMES = (
    *("../../x", "/tmp/reglab-hostile", "..", ".", "", " ", "a/../../b", "..\\..\\x", "C:\\x", "~/x", "`id`", "a;b"),
    *("a\0b", "a\nb", "a\r\nSet-Cookie: x", "a\x1b[31mb", "%2e%2e%2fx", "%00", "\u2044..\u2215x", "\u202egnp.exe"),
    *("\ud800", "é" * 300, "x" * 5000, "-rf", "--help", "CON", "nul.txt", ".hidden", "file:///etc/passwd"),
    *("<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "javascript:alert(1)", "</title><svg onload=x>"),
    *("{{7*7}}", "{% include '/etc/passwd' %}", "${oc.env:HOME}", "[x](javascript:y)", "![x](http://h/y)", "a|b|c"),
)
