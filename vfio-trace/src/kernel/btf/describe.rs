//! Types as C would write them, for messages.

use super::{
    parse::Btf,
    types::{BtfKind, BtfType, TypeId},
};

/// Length at which a description is cut, in bytes: no user needs more of a type, and a damaged file could go on
/// forever.
const MAX_LEN: usize = 400;
const MAX_DEPTH: u32 = 24;

impl Btf {
    /// Returns a type in C, without a declared name: `struct file *(struct vfio_device *, enum vfio_device_mig_state)`.
    ///
    /// Never fails: parts that cannot be decoded become `?`, and very long types are cut.
    pub fn describe(&self, id: TypeId) -> String {
        let mut text = String::new();
        self.write(&mut text, id, 0);
        text
    }

    fn write(&self, out: &mut String, id: TypeId, depth: u32) {
        let (Ok(found), true) = (self.get(id), depth < MAX_DEPTH && out.len() < MAX_LEN) else {
            out.push('?');
            return;
        };
        match found.kind() {
            BtfKind::Void => out.push_str("void"),
            BtfKind::Struct => tagged(out, "struct", &found),
            BtfKind::Union => tagged(out, "union", &found),
            BtfKind::Enum | BtfKind::Enum64 => tagged(out, "enum", &found),
            BtfKind::Fwd => tagged(out, if found.flag() { "union" } else { "struct" }, &found),
            BtfKind::Ptr => self.write_pointer(out, found.target(), depth),
            BtfKind::Const => self.write_qualified(out, "const", found.target(), depth),
            BtfKind::Volatile => self.write_qualified(out, "volatile", found.target(), depth),
            BtfKind::Restrict => self.write_qualified(out, "restrict", found.target(), depth),
            BtfKind::TypeTag | BtfKind::Func | BtfKind::Var => self.write(out, found.target(), depth + 1),
            BtfKind::Array => {
                self.write(out, found.target(), depth + 1);
                out.push('[');
                out.push_str(&found.elements().to_string());
                out.push(']');
            },
            BtfKind::FuncProto => self.write_function(out, &found, "", depth),
            BtfKind::Int | BtfKind::Float | BtfKind::Typedef if !found.name().is_empty() => {
                out.push_str(found.name());
            },
            _ => out.push('?'),
        }
    }

    fn write_pointer(&self, out: &mut String, target: TypeId, depth: u32) {
        if let Ok((pointee, _)) = self.resolve(target)
            && pointee.kind() == BtfKind::FuncProto
        {
            self.write_function(out, &pointee, "(*)", depth);
            return;
        }
        self.write(out, target, depth + 1);
        out.push_str(if out.ends_with('*') { "*" } else { " *" });
    }

    fn write_qualified(&self, out: &mut String, qualifier: &str, target: TypeId, depth: u32) {
        // C puts the qualifier of a pointer behind its star.
        if self.get(target).is_ok_and(|inner| inner.kind() == BtfKind::Ptr) {
            self.write(out, target, depth + 1);
            out.push_str(qualifier);
        } else {
            out.push_str(qualifier);
            out.push(' ');
            self.write(out, target, depth + 1);
        }
    }

    fn write_function(&self, out: &mut String, proto: &BtfType<'_>, name: &str, depth: u32) {
        self.write(out, proto.target(), depth + 1);
        if !out.ends_with('*') {
            out.push(' ');
        }
        out.push_str(name);
        out.push('(');
        if proto.is_empty() {
            out.push_str("void");
        }
        for (index, param) in proto.params().enumerate() {
            if index > 0 {
                out.push_str(", ");
            }
            if out.len() >= MAX_LEN {
                out.push('?');
                break;
            }
            if param.type_id.0 == 0 {
                out.push_str("...");
            } else {
                self.write(out, param.type_id, depth + 1);
            }
        }
        out.push(')');
    }
}

fn tagged(out: &mut String, tag: &str, found: &BtfType<'_>) {
    out.push_str(tag);
    out.push(' ');
    out.push_str(if found.name().is_empty() { "{...}" } else { found.name() });
}
